"""`/znn.json`: what the page shows, for programs."""

import json
import math
from typing import Any

from distributed.http.utils import RequestHandler

from znn_dask.dashboard.plugin import BoardPlugin


class ViewHandler(RequestHandler):
    """Answers with the view of a board."""

    def initialize(self, plugin: BoardPlugin) -> None:
        self._plugin = plugin

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(plain(self._plugin.view()), allow_nan=False))


def plain(value: Any) -> Any:
    """The same value with None for numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(content) for content in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
