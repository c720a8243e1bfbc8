"""Adds the page `/znn` to the dashboard of a scheduler: `dask scheduler --preload` this module.

Where it cannot, it says why in the scheduler's log, and the scheduler goes on without the page.
"""

import importlib.util
import logging

from distributed import Scheduler

from znn_dask.dashboard.plugin import NAME, BoardPlugin

PAGE = "znn"

logger = logging.getLogger(__name__)


def dask_setup(scheduler: Scheduler) -> None:
    """What Dask calls when the scheduler has started."""
    if NAME in scheduler.plugins:
        return
    plugin = BoardPlugin(scheduler)
    scheduler.add_plugin(plugin)
    for what, add in (("znn.json", _add_route), ("metrics", _add_metrics), (PAGE, _add_page)):
        try:
            add(scheduler, plugin)
        except Exception:
            logger.warning("this scheduler does without /%s", what, exc_info=True)


def _add_route(scheduler: Scheduler, plugin: BoardPlugin) -> None:
    from znn_dask.dashboard.routes import ViewHandler

    route = (f"{_prefix(scheduler)}{PAGE}.json", ViewHandler, {"plugin": plugin})
    scheduler.http_application.add_handlers(".*", [route])


def _add_page(scheduler: Scheduler, plugin: BoardPlugin) -> None:
    from znn_dask.dashboard.serving import add_page

    if any(hasattr(app, "app_paths") for app in scheduler.http_application.applications):
        add_page(scheduler, plugin, PAGE, _prefix(scheduler))


def _add_metrics(scheduler: Scheduler, plugin: BoardPlugin) -> None:
    if importlib.util.find_spec("prometheus_client") is not None:
        from znn_dask.dashboard.metrics import expose

        expose(plugin)


def _prefix(scheduler: Scheduler) -> str:
    """What the paths of the scheduler's pages begin with, "/" mostly."""
    for app in scheduler.http_application.applications:
        for path in getattr(app, "app_paths", ()):
            if path.endswith("/status"):
                return str(path.removesuffix("status"))
    return "/"
