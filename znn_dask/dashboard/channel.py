"""From a driver to the dashboard: the present state of one training or prediction, now and then.

Each message is the whole state, so that one that is lost, or a page that is opened late, misses
nothing. On a scheduler without the page it is an event among others: some kilobytes, of which Dask
keeps the last.
"""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from distributed import Client

TOPIC = "znn"
"""Of the events."""

SECONDS = 1.0
"""Between two messages, at least."""

_LAST_WORD_SECONDS = 5.0

Message = dict[str, Any]


class Channel:
    """Sends messages about one training or prediction without waiting for the scheduler.

    What goes wrong on the way stays unsaid: whoever looks at the page sees that it is silent, and
    the work itself meets a scheduler that is gone by itself.
    """

    def __init__(self, client: Client, kind: str) -> None:
        self._client = client
        self._about = {"kind": kind, "id": f"{kind}-{uuid.uuid4().hex[:8]}", "client": client.id}
        self._next = 0.0
        self._lock = threading.Lock()
        self._message: Callable[[], Message] | None = None  # offered and not sent yet
        self._sending: asyncio.Task[None] | None = None
        self._busy = False

    def offer(self, message: Callable[[], Message]) -> None:
        """Send what `message` returns a second after the last message, or at once.

        It is called in the thread of the client's loop; where another is offered before, only that.
        """
        with self._lock:
            self._message = message
            if self._busy:
                return
            self._busy = True
        self._client.loop.add_callback(self._begin)

    def close(self, message: Callable[[], Message]) -> None:
        """Send the last message, and wait for it a little: the client may close next."""
        with contextlib.suppress(Exception):
            self._client.sync(self._finish, message, callback_timeout=_LAST_WORD_SECONDS)

    def _begin(self) -> None:
        self._sending = asyncio.ensure_future(self._deliver())

    async def _deliver(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._next - time.monotonic()))
            with self._lock:
                message, self._message = self._message, None
                if message is None:
                    self._busy = False
                    return
            with contextlib.suppress(Exception):
                await self._send(message())
            self._next = time.monotonic() + SECONDS

    async def _finish(self, message: Callable[[], Message]) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await self._send(message())

    async def _send(self, message: Message) -> None:
        content = {**self._about, **message}
        await self._client.scheduler.log_event(topic=TOPIC, msg=content)
