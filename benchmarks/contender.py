"""A process that is measured: it answers one request at a time and does nothing in between.

Requests and answers are lines of JSON. What is measured prints nothing else to standard output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOLDER = Path(__file__).resolve().parent


class Contender:
    """A script of this folder, run by the interpreter `python` with so many threads.

    The environment's limits on BLAS and OpenMP threads are `threads`, so use it for scripts that
    divide their work among them, and 1 for scripts that have threads of their own.
    """

    def __init__(self, python: str, script: str, threads: int) -> None:
        limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
        environment = {**os.environ, **limits, "PYTHONPATH": f"{FOLDER.parent}"}
        self._process = subprocess.Popen(
            [python, str(FOLDER / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, *values: Any) -> Any:
        """The answer of the function `what` of the script.

        Raises RuntimeError where the process has ended; its own message is on standard error.
        """
        self.tell(what, *values)
        return self.answer()

    def tell(self, what: str, *values: Any) -> None:
        """Ask without waiting for the `answer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, *values]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the process answers next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with code {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            if kind is not None:
                self._process.kill()


class Others:
    """What programs other than this one and its contenders take of the processors (of Linux)."""

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._pids = ["self", *(str(contender.pid) for contender in contenders)]
        self._last = self._now()

    def share(self) -> float:
        """Share of all processors since this was last asked."""
        last, self._last = self._last, self._now()
        whole, busy, ours = (b - a for a, b in zip(last, self._last, strict=True))
        return max(0, busy - ours) / max(1, whole)

    def _now(self) -> tuple[int, int, int]:
        """Ticks that have passed, those not idle, and those of our processes."""
        # user nice system idle iowait irq softirq steal
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        ours = 0
        for pid in self._pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ours += int(fields[11]) + int(fields[12])
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], ours


def resident(peak: bool = False) -> int:
    """Bytes of memory that this process has, or has had at most (of Linux)."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    for line in sys.stdin:
        what, *values = json.loads(line)
        print(json.dumps(functions[what](*values)), file=answers, flush=True)
