"""Where a browser finds the page."""

from typing import Any

from distributed import Client

from znn_dask.cluster.local import dashboard_link
from znn_dask.dashboard.plugin import NAME


def page_link(client: Client) -> str:
    """Address of the page `/znn` of a client's cluster; of its `/status` where it has no such page,
    and "" where it has no dashboard."""
    link = dashboard_link(client)
    if not link or not _has_page(client):
        return link
    return f"{link.removesuffix('status')}znn"


def _has_page(client: Client) -> bool:
    try:
        return bool(client.run_on_scheduler(_has_board))
    except Exception:  # a scheduler without this package cannot even read the question
        return False


def _has_board(dask_scheduler: Any) -> bool:
    return NAME in dask_scheduler.plugins
