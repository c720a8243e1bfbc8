"""A real Jupyter kernel: cells run in it, and the stop button is pressed."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

_PATIENCE = 120.0  # seconds for a cell


class Kernel:
    """Runs cells one after the other and keeps what they show."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self._client = manager, client

    def run(self, code: str, watch: Callable[[str], bool] | None = None) -> list[str]:
        """Texts that a cell shows, prints or returns, in order; raises what the cell raises.

        The stop button is pressed once, when `watch` says so of a text.
        """
        request = self._client.execute(code)
        shown: list[str] = []
        deadline = time.monotonic() + _PATIENCE
        while True:
            message = self._client.get_iopub_msg(timeout=deadline - time.monotonic())
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "error":
                raise AssertionError("\n".join(content["traceback"]))
            if kind == "status" and content["execution_state"] == "idle":
                return shown
            text = _text(kind, content)
            shown += text
            if watch is not None and any(map(watch, text)):
                watch = None
                self.manager.interrupt_kernel()


def _text(kind: str, content: dict[str, Any]) -> list[str]:
    if kind == "stream":
        return [content["text"]]
    return [content["data"]["text/plain"]] if "text/plain" in content.get("data", {}) else []


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of this interpreter whose cells run in `folder`."""
    manager = KernelManager()
    # Without the display of a frozen module that debuggers ask for at the start.
    environment = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "OPENBLAS_NUM_THREADS": "1"}
    manager.start_kernel(cwd=str(folder), env=environment)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
