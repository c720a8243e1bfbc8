"""Picture of a learning curve."""

import io
import os
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from znn_dask.training.curve import LearningCurve, Series, smooth

_TRAIN, _VALIDATION = "#4477aa", "#cc3311"  # distinguishable to colour-blind readers
_POINTS = 1000  # as many as the picture can show apart


def learning_curve_figure(curve: LearningCurve, title: str = "") -> Figure:
    """Loss and error against updates: training (raw and smoothed), validation, best validation."""
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    best = curve.best()
    panels = ((loss, "loss", "loss", "best"), (error, "error", "misclassified", "at best loss"))
    for axes, column, label, mark in panels:
        _plot_train(axes, curve.train, column)
        _plot_validation(axes, curve.validation, column)
        if best is not None:
            axes.plot(
                [best.step],
                [getattr(best, column)],
                marker="*",
                markersize=13,
                color=_VALIDATION,
                markeredgecolor="white",
                linestyle="none",
                label=f"{mark}: {getattr(best, column):.4g} at {best.step:,}",
                zorder=4,
            )
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        _scale(axes, curve, column)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small", loc="upper right", framealpha=0.85, edgecolor="none")
        else:
            axes.text(0.5, 0.5, "no points yet", ha="center", transform=axes.transAxes)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def save_learning_curve(
    curve: LearningCurve, target: str | os.PathLike[str] | BinaryIO, title: str = ""
) -> None:
    """Write `learning_curve_figure` as PNG to a path or binary file."""
    learning_curve_figure(curve, title).savefig(target, format="png")


def learning_curve_png(curve: LearningCurve, title: str = "") -> bytes:
    """`learning_curve_figure` as the bytes of a PNG, for web pages and notebooks."""
    buffer = io.BytesIO()
    save_learning_curve(curve, buffer, title)
    return buffer.getvalue()


def _plot_train(axes: Axes, series: Series, column: str) -> None:
    if not len(series):
        return
    steps, values = series.column("step"), series.column(column)
    width = 1 + 2 * (len(values) // 100)  # two percent of the points
    if width == 1:
        axes.plot(steps, values, color=_TRAIN, linewidth=1.5, label="training")
        return
    # Long curves are drawn as the range of each group of points: one pixel shows no more.
    starts = np.arange(0, len(values), 1 + len(values) // _POINTS)
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    axes.fill_between(steps[starts], low, high, color=_TRAIN, alpha=0.25, linewidth=0.5)
    smoothed = smooth(values, width)[starts]
    axes.plot(steps[starts], smoothed, color=_TRAIN, linewidth=1.5, label="training")


def _plot_validation(axes: Axes, series: Series, column: str) -> None:
    if not len(series):
        return
    axes.plot(
        series.column("step"),
        series.column(column),
        color=_VALIDATION,
        marker="o",
        markersize=3.5,
        linewidth=1,
        label="validation",
        zorder=3,
    )


def _scale(axes: Axes, curve: LearningCurve, column: str) -> None:
    """From zero up to what nearly all points reach: a few outliers must not flatten the rest."""
    values = np.concatenate([curve.train.column(column), curve.validation.column(column)])
    values = values[np.isfinite(values)]
    if not len(values) or values.min() < 0:
        return
    ordinary = np.quantile(values, 0.98)
    validation = curve.validation.column(column)
    top = max([ordinary, *validation[np.isfinite(validation)]])
    if top > 0:
        axes.set_ylim(0, 1.08 * top)
