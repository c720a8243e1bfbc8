"""From a driver to the dashboard: the present state of one training or prediction, now and then.

Each message is the whole state, so that one that is lost, or a page that is opened late, misses
nothing. On a scheduler without the page it is an event among others: some kilobytes, of which Dask
keeps the last.
"""

import contextlib
import math
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
        self._next = -math.inf
        self._under_way = False

    def offer(self, message: Callable[[], Message]) -> None:
        """Send what `message` returns, unless the last one went less than a second ago."""
        now = time.monotonic()
        if now < self._next or self._under_way:
            return
        self._next = now + SECONDS
        self._under_way = True
        content = {**self._about, **message()}
        self._client.loop.add_callback(self._deliver, content)

    def close(self, message: Message) -> None:
        """Send the last message, and wait for it a little: the client may close next."""
        content = {**self._about, **message}
        with contextlib.suppress(Exception):
            self._client.sync(self._send, content, callback_timeout=_LAST_WORD_SECONDS)

    async def _deliver(self, content: Message) -> None:
        with contextlib.suppress(Exception):
            await self._send(content)
        self._under_way = False

    async def _send(self, content: Message) -> None:
        await self._client.scheduler.log_event(topic=TOPIC, msg=content)
