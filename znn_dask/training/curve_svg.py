"""A learning curve as SVG, made in milliseconds: for displays that are drawn again every second."""

from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

import numpy as np

from znn_dask.training.curve import LearningCurve, Series, smooth

_TRAIN, _VALIDATION = "#3f86c4", "#dd5a33"  # readable on light and dark pages
_WIDTH, _HEIGHT = 430, 190  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 28
_POINTS: Final = 200  # of a line; more would not be seen
_STYLE: Final = (
    ".znn-curve text{font:11px system-ui,'Helvetica Neue',Arial,sans-serif;fill:currentColor}"
    ".znn-curve .faint{opacity:.7}.znn-curve .end{text-anchor:end}"
    ".znn-curve .middle{text-anchor:middle}.znn-curve .name{font-weight:600}"
    ".znn-curve .grid{stroke:currentColor;stroke-opacity:.14;fill:none}"
    f".znn-curve .range{{fill:{_TRAIN};fill-opacity:.2}}"
    f".znn-curve .train{{stroke:{_TRAIN};stroke-width:1.8;fill:none;stroke-linejoin:round}}"
    f".znn-curve .validation{{stroke:{_VALIDATION};stroke-width:1.3;fill:none}}"
    f".znn-curve circle{{fill:{_VALIDATION}}}"
)


class _Frame(NamedTuple):
    """Where a panel's values lie: (step, value) at the upper right corner, and its left side."""

    steps: float
    top: float
    x: float

    def at(self, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(n, 2) pixels of (n,) steps and values."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        x = self.x + _LEFT + steps / self.steps * width
        return np.stack([x, _TOP + (1 - np.minimum(values / self.top, 1.0)) * height], axis=1)


def curve_svg(curve: LearningCurve) -> str:
    """Loss and misclassified share against updates: training (range and smoothed), validation.

    Text and grid take the colour of the text around. Both axes begin at zero; a few outliers are
    cut off so that they do not flatten the rest.
    """
    steps = max([1, *(series[-1].step for series in (curve.train, curve.validation) if series)])
    parts: list[str] = []
    for i, (column, name) in enumerate((("loss", "loss"), ("error", "misclassified"))):
        frame = _Frame(steps, _top(curve, column), i * _WIDTH)
        parts += [*_axes(frame, name), *_train(curve.train, column, frame)]
        parts += _validation(curve.validation, column, frame)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="znn-curve" role="img"'
        f' viewBox="0 0 {2 * _WIDTH} {_HEIGHT}" width="{2 * _WIDTH}" height="{_HEIGHT}"'
        f' aria-label="learning curve"><style>{_STYLE}</style>{"".join(parts)}'
        f"{''.join(_legend(curve))}</svg>"
    )


def _top(curve: LearningCurve, column: str) -> float:
    """What nearly all values lie below."""
    train, held_out = curve.train.column(column), curve.validation.column(column)
    train, held_out = train[np.isfinite(train)], held_out[np.isfinite(held_out)]
    reach = [*held_out, *([np.quantile(train, 0.98)] if len(train) else [])]
    return 1.08 * float(max(reach, default=0.0)) or 1.0


def _axes(frame: _Frame, name: str) -> Iterator[str]:
    right, bottom = frame.x + _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    left = frame.x + _LEFT
    for value in _ticks(frame.top):
        y = frame.at(np.zeros(1), np.array([value]))[0, 1]
        yield f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
        yield f'<text class="faint end" x="{left - 6}" y="{y + 4:.1f}">{value:g}</text>'
    for value in _ticks(frame.steps):
        x = frame.at(np.array([value]), np.zeros(1))[0, 0]
        anchor = "end" if x > right - 15 else "middle"
        at = min(x, right)
        yield f'<text class="faint {anchor}" x="{at:.1f}" y="{bottom + 15}">{value:,.0f}</text>'
    yield f'<text class="name" x="{left}" y="13">{escape(name)}</text>'


def _ticks(top: float) -> list[float]:
    """Round numbers from zero up to `top`, four or five."""
    rough = top / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    return [float(k * step) for k in range(int(top / step * 1.0001) + 1)]


def _train(series: Series, column: str, frame: _Frame) -> Iterator[str]:
    if not series:
        return
    steps, values = series.column("step"), series.column(column)
    starts = np.arange(0, len(values), 1 + len(values) // _POINTS)
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    means = sums / np.maximum(np.add.reduceat(finite, starts, dtype=np.int64), 1)
    means[~np.isfinite(low)] = np.nan
    line = smooth(means, 1 + 2 * (len(means) // 40))
    at, seen = steps[starts], np.isfinite(line)
    if len(starts) > _POINTS // 4:
        inside = np.isfinite(low)
        above, below = frame.at(at[inside], high[inside]), frame.at(at[inside], low[inside])
        yield f'<path class="range" d="M{_path(np.concatenate([above, below[::-1]]))}Z"/>'
    yield f'<path class="train" d="M{_path(frame.at(at[seen], line[seen]))}"/>'


def _validation(series: Series, column: str, frame: _Frame) -> Iterator[str]:
    values = series.column(column)
    seen = np.isfinite(values)
    if not seen.any():
        return
    points = frame.at(series.column("step")[seen], values[seen])
    yield f'<path class="validation" d="M{_path(points)}"/>'
    for (x, y), step, value in zip(points, series.column("step")[seen], values[seen], strict=True):
        hint = f"validation after {step:,} updates: {value:.4g}"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{hint}</title></circle>'


def _path(points: np.ndarray) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _legend(curve: LearningCurve) -> Iterator[str]:
    yield from _key("training, smoothed", "train", _WIDTH - _RIGHT)
    best = curve.best()
    if best is not None:
        text = f"validation, least loss {best.loss:.4g} at {best.step:,}"
        yield from _key(text, "validation", 2 * _WIDTH - _RIGHT)


def _key(text: str, kind: str, x: float) -> Iterator[str]:
    yield f'<text class="end" x="{x}" y="13">{text}</text>'
    yield f'<path class="{kind}" d="M{x - 6.3 * len(text) - 26:.0f} 9h18"/>'
