"""The picture of `compare.py`: ratios per network, and what they should reach."""

from collections.abc import Sequence
from pathlib import Path

from compare_report import Comparison, against_znn
from marks import GOALS

PICTURE = Path(__file__).with_name("compare.png")
_TICKS = (0.5, 1, 2, 3, 5, 8, 12, 20, 50)


def draw(found: Sequence[Comparison], path: Path = PICTURE) -> None:
    """A row of points per network: times as fast as PyTorch, and as the original ZNN."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    height = 1.5 + 0.27 * len(found)
    figure, panels = pyplot.subplots(1, 2, figsize=(9, height), sharey=True, layout="constrained")
    rows = range(len(found))
    marks = [against_znn(c) or (None, None) for c in found]
    for panel, title, values in (
        (panels[0], "times as fast as PyTorch", [(c.update.ratio, c.forward.ratio) for c in found]),
        (panels[1], "times as fast as the original ZNN", marks),
    ):
        for i, (kind, marker) in enumerate((("update", "o"), ("forward pass", "D"))):
            points = [(v[i], y) for v, y in zip(values, rows, strict=True) if v[i] is not None]
            if points:
                panel.plot(*zip(*points, strict=True), marker, markersize=5, label=kind)
        panel.axvline(1, color="black", linewidth=1)
        panel.set(title=title, xscale="log")
        panel.xaxis.set_major_locator(FixedLocator(_TICKS))
        panel.xaxis.set_major_formatter("{x:g}x")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(axis="x", alpha=0.3)
    goals = [GOALS.get(c.name, 1.0) for c in found]
    panels[0].plot(goals, rows, "|", color="C3", markersize=12, markeredgewidth=2)
    panels[1].axvline(5, color="C3", label="goal, on the right of the geometric mean")
    panels[0].set_yticks(list(rows), [c.name for c in found])
    panels[0].set_ylim(len(found) - 0.5, -0.5)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
