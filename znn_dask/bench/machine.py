"""The memory that this process has."""

import platform
import resource
from pathlib import Path


def rss() -> int:
    """Bytes of memory this process has now; its peak where the system does not tell."""
    return _status("VmRSS") or peak_rss()


def peak_rss() -> int:
    """Most bytes of memory that this process had.

    Not `getrusage`, where Linux tells more: a child inherits the peak of its parent there.
    """
    scale = 1 if platform.system() == "Darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split() for line in lines if line.startswith(f"{key}:")]
    return int(found[0][1]) * 1024 if found else 0
