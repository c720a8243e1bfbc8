"""Puts the page among those that the scheduler's web server has."""

import functools

from distributed import Scheduler
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from tornado.ioloop import IOLoop

from znn_dask.dashboard.page import document
from znn_dask.dashboard.plugin import BoardPlugin

_PLACE_IN_MENU = 1  # behind "status"


def add_page(scheduler: Scheduler, plugin: BoardPlugin, name: str, prefix: str) -> None:
    """Serve the page under `prefix` + `name`, with a link to it in the menu of all pages."""
    variables = template_variables(scheduler)
    page = functools.partial(document, plugin)
    application = BokehApplication(
        {f"/{name}": page}, scheduler, prefix=prefix, template_variables=variables
    )
    scheduler.http_application.add_application(application)
    application.initialize(IOLoop.current())
    application.start()
    variables["pages"].insert(_PLACE_IN_MENU, name)
