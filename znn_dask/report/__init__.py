"""Pictures of volumes and schedules, and the HTML report that shows them."""

from znn_dask.report.html import Fact, Picture, Section, Table, write_report
from znn_dask.report.pictures import save, slice_panels

__all__ = [
    "Fact",
    "Picture",
    "Section",
    "Table",
    "save",
    "slice_panels",
    "write_report",
]
