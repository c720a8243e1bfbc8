"""The document behind `/znn`: one card for each training, prediction, and for the workers."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import Div, InlineStyleSheet
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import env

from znn_dask.dashboard import style, words
from znn_dask.dashboard.charts import BarChart, BlockChart, CurveChart
from znn_dask.dashboard.plugin import BoardPlugin

_MILLISECONDS = 1000
_MOST_CARDS = 8  # beyond the running ones, the latest
_ENDED_CARDS = 2

_TEMPLATE = (
    '{% extends "simple.html" %}{% block extra_resources %}<style>' + style.PAGE + "</style>"
    "{% endblock %}"
)

logger = logging.getLogger(__name__)


def document(plugin: BoardPlugin, server: Any, extra: dict[str, Any], doc: Any) -> None:
    """Fill a document for a browser that opens the page."""
    page = Page(plugin.view, server.address)
    page.update()
    doc.title = "ZNN: trainings and predictions"
    doc.add_root(page.root)
    add_periodic_callback(doc, page, _MILLISECONDS)
    doc.template = env.from_string(_TEMPLATE)
    doc.template_variables.update(extra)


class Page(DashboardComponent):
    """All cards; those that come and go with the jobs.

    Parameters
    ----------
    view
        What is to be shown now.
    address
        Of the scheduler.
    """

    def __init__(self, view: Callable[[], dict[str, Any]], address: str) -> None:
        self._view = view
        self._summary, self._error = _html(), _html()
        self._idle = _card(_html(words.idle(address)))
        self._ended_text = _html()
        self._ended = _card(self._ended_text)
        self._jobs: dict[str, TrainingCard | PredictionCard] = {}
        self._workers = WorkersCard()
        self.root = column(self._summary, sizing_mode="stretch_width", spacing=0)

    def update(self) -> None:
        """Show what is there now. An error is shown instead: it must not end the updates."""
        try:
            self._show(self._view())
        except Exception as error:
            logger.warning("the page /znn could not be brought up to date", exc_info=True)
            self._error.text = f'<div class="note">This page met an error: {error!r}</div>'
            self._place([self._summary, self._error])

    def _show(self, view: dict[str, Any]) -> None:
        jobs = [*view["trainings"], *view["predictions"]]
        running = [job for job in jobs if job["state"] == "running"]
        over = sorted(
            (job for job in jobs if job["state"] != "running"), key=lambda job: -job["begun"]
        )
        shown = [*running[:_MOST_CARDS], *over[: max(0, _ENDED_CARDS - len(running))]]
        listed = [job for job in [*running, *over] if job not in shown]
        cards = {job["id"]: self._jobs.get(job["id"]) or _card_of(job) for job in shown}
        for job in shown:
            cards[job["id"]].update(job)
        self._jobs = cards
        self._summary.text = words.summary(view)
        self._ended_text.text = words.ended(listed)
        self._workers.update(view["workers"])
        self._place(
            [
                self._summary,
                *(card.root for card in cards.values()),
                *([] if running else [self._idle]),
                *([self._workers.root] if view["workers"] else []),
                *([self._ended] if listed else []),
            ]
        )

    def _place(self, children: list[Any]) -> None:
        if children != list(self.root.children):
            self.root.children = children


class TrainingCard:
    """One training: facts, curve, and time by layer and pass."""

    def __init__(self) -> None:
        self._words = _html()
        self._curve, self._layers = CurveChart(), LayersPanel()
        meaning = {"training": style.TRAINING, "validation": style.VALIDATION}
        self._loss = _titled(words.legend("Loss", meaning), self._curve.root)
        self.root = _card(self._words, _side_by_side(self._loss, self._layers.root))

    def update(self, job: dict[str, Any]) -> None:
        """Show a training of the view."""
        self._words.text = words.training(job)
        self._loss.visible = job["loss"] is not None  # there are no axes for nothing
        self._curve.update(job["curve"])
        self._layers.update(job["layers"])


class PredictionCard:
    """One prediction: facts, map of its blocks, and time by layer."""

    def __init__(self) -> None:
        self._words = _html()
        self._blocks = BlockChart()
        self._layers = LayersPanel("ms of one thread per block")
        meaning = {"done": style.DONE, "running": style.RUNNING, "missing": style.MISSING}
        blocks = _titled(words.legend("Blocks", meaning), self._blocks.root)
        self.root = _card(self._words, _side_by_side(blocks, self._layers.root))

    def update(self, job: dict[str, Any]) -> None:
        """Show a prediction of the view."""
        self._words.text = words.prediction(job)
        self._blocks.update(job)
        self._layers.update(job["layers"])


class LayersPanel:
    """Time by layer and pass."""

    def __init__(self, unit: str = "ms of one thread per update") -> None:
        self._chart = BarChart(style.PASSES, unit, "0,0.[0]")
        self._legend = _html()
        self.root = column(self._legend, self._chart.root, sizing_mode="stretch_width", spacing=0)
        self.root.visible = False

    def update(self, layers: list[dict[str, Any]]) -> None:
        """Show the layers of a job; nothing where none are known yet."""
        if not layers:
            return  # of an ended job, the last ones stay
        self.root.visible = True
        seen = {name for layer in layers for name in layer["passes"]}
        colours = {name: colour for name, colour in style.PASSES.items() if name in seen}
        self._legend.text = words.legend("Time by layer and pass", colours)
        self._chart.update([(layer["layer"], layer["passes"]) for layer in layers])


class WorkersCard:
    """What the threads of the workers do, and what their caches hold."""

    def __init__(self) -> None:
        self._words = _html()
        self._shares = BarChart(style.SHARES, "share of the threads' time", "0%", most=1.0)
        self._spectra = BarChart(style.SPECTRA, "MB of spectra", "0,0.[0]", scale=1e-6)
        shares = _titled(words.legend("Time", style.SHARES), self._shares.root)
        self._caches = _titled(words.legend("FFT caches", style.SPECTRA), self._spectra.root)
        self.root = _card(self._words, _side_by_side(shares, self._caches))

    def update(self, workers: list[dict[str, Any]]) -> None:
        """Show the workers of the view."""
        self._words.text = words.workers(workers)
        names = [f"{w['name']} · {words.plural(w['threads'], 'thread')}" for w in workers]
        self._shares.update(
            [(n, worker["shares"] or {}) for n, worker in zip(names, workers, strict=True)]
        )
        self._caches.visible = any(sum(w["spectra_bytes"].values()) for w in workers)
        self._spectra.update(
            [(n, worker["spectra_bytes"]) for n, worker in zip(names, workers, strict=True)]
        )


def _card_of(job: dict[str, Any]) -> TrainingCard | PredictionCard:
    return TrainingCard() if "curve" in job else PredictionCard()


def _html(text: str = "") -> Div:
    sheet = InlineStyleSheet(css=style.HEAD)
    return Div(text=text, sizing_mode="stretch_width", stylesheets=[sheet], margin=0)


def _card(*children: Any) -> Any:
    return column(*children, sizing_mode="stretch_width", styles=style.CARD, spacing=4)


def _titled(title: str, chart: Any) -> Any:
    return column(_html(title), chart, sizing_mode="stretch_width", spacing=0)


def _side_by_side(*children: Iterable[Any]) -> Any:
    return row(*children, sizing_mode="stretch_width", spacing=28)
