"""Pictures of volumes and schedules, and the HTML report that shows them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from znn_dask.report.html import Fact, Picture, Section, Table, write_report
    from znn_dask.report.pictures import save, slice_panels

# Imported when asked for: whoever only wants colours does without matplotlib.
_HOMES = {
    "Fact": "html",
    "Picture": "html",
    "Section": "html",
    "Table": "html",
    "save": "pictures",
    "slice_panels": "pictures",
    "write_report": "html",
}

__all__ = [
    "Fact",
    "Picture",
    "Section",
    "Table",
    "save",
    "slice_panels",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'znn_dask.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f"znn_dask.report.{_HOMES[name]}"), name)
