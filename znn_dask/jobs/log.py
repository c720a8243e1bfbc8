"""A job's log: text in pieces, because object stores cannot append.

The writer replaces its last piece, a line longer each time, until it is long enough to begin
another. Readers remember how much of which piece they have seen.
"""

import threading
import time
from dataclasses import dataclass, field

from znn_dask.jobs.folder import Folder

_FOLDER = "log"
_PIECE = 1 << 16  # bytes


class LogWriter:
    """Writes the lines of one attempt; may be used from several threads."""

    def __init__(self, folder: Folder, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt
        self._piece, self._text, self._dirty = 1, "", False
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Add lines; `flush` writes them."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with self._lock:
            for line in text.splitlines():
                self._text += f"{stamp} [{self._attempt}] {line}\n"
            self._dirty = True

    def flush(self) -> None:
        """Write what was added since the last time."""
        with self._lock:
            if not self._dirty:
                return
            name = f"{_FOLDER}/{self._attempt:06d}-{self._piece:06d}.txt"
            self._folder.write(name, self._text.encode())
            self._dirty = False
            if len(self._text) > _PIECE:
                self._piece, self._text = self._piece + 1, ""


@dataclass
class Position:
    """How far a log is read: bytes of each piece."""

    seen: dict[str, int] = field(default_factory=dict)


def read_log(folder: Folder, position: Position) -> tuple[str, Position]:
    """What was added to a log since `position`, and the position after it."""
    seen, text = dict(position.seen), b""
    for name in folder.names(_FOLDER):
        attempt = name.partition("-")[0]
        if any(other > name and other.startswith(attempt) for other in position.seen):
            continue  # read to its end: the writer was at a later piece by then
        content = folder.read(f"{_FOLDER}/{name}") or b""
        text += content[seen.get(name, 0) :]
        seen[name] = len(content)
    return text.decode(), Position(seen)
