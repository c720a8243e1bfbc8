"""How a command ends when something is wrong: one line on standard error, and an exit code."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from cyclopts import CycloptsError

WRONG_INPUT, BROKEN, INTERRUPTED = 2, 1, 130


def guarded(command: Callable[[], Any]) -> int:
    """Run `command`: its exit code, 0 when it returns none.

    Errors that a user can act on end as one line with code 2; all others are our mistakes and keep
    their traceback.
    """
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`znn-dask info net.znn | head -3`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN
    except Exception as error:
        if not _is_for_users(error) or os.environ.get("ZNN_DASK_TRACEBACK"):
            raise
        say(one_line(error))
        return WRONG_INPUT
    finally:
        warnings.showwarning = shown


def say(text: str) -> None:
    """A line of this program on standard error."""
    print(f"znn-dask: {text}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _is_for_users(error: Exception) -> bool:
    """What input, files, the network or a missing package caused; also from deep in Dask."""
    if isinstance(error, CycloptsError | ValueError | OSError | ImportError | MemoryError):
        return True
    return type(error).__module__.partition(".")[0] == "znn_dask"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, DeprecationWarning | ResourceWarning):
        return
    say(f"warning: {' '.join(str(message).split())}")
