"""The blocks of a prediction as a picture: its z slices side by side, few enough cells to draw."""

import math
from dataclasses import dataclass

import numpy as np

MOST_CELLS = 6000
MOST_SLICES = 40


@dataclass(frozen=True)
class Mosaic:
    """Cells and slices, in units of a cell; x to the right, y downwards.

    Attributes
    ----------
    width, height
        Of the whole picture.
    x, y
        Middle of each cell.
    total, done, running
        Blocks that each cell stands for; of them done, and under way.
    where
        What each cell stands for, in blocks z, y, x.
    slices
        (x, y, text): where the name of each slice stands, and the name, in voxels of z.
    """

    width: float
    height: float
    x: list[float]
    y: list[float]
    total: list[int]
    done: list[int]
    running: list[int]
    where: list[str]
    slices: list[tuple[float, float, str]]


def mosaic(
    grid: tuple[int, int, int],
    depth: int,
    block_depth: int,
    done: np.ndarray,
    running: list[int],
    shape: float = 4.0,
) -> Mosaic:
    """Lay the blocks of a grid z, y, x out.

    Parameters
    ----------
    grid
        Blocks along z, y and x.
    depth, block_depth
        Voxels of the output and of a block along z.
    done
        (n,) bool, in C order over the grid.
    running
        Numbers of the blocks under way.
    shape
        Width over height that the picture should have.
    """
    under_way = np.zeros(done.shape, bool)
    under_way[running] = True
    joined = _joined(grid)
    total, finished, begun = (
        _pooled(values.reshape(grid), joined) for values in (np.ones_like(done), done, under_way)
    )
    slices, rows, columns = total.shape
    across = _across(slices, rows, columns, shape)
    gap = max(1.0, 0.08 * columns)
    left, top = columns + gap, rows + gap + max(1.0, 0.12 * rows)
    z, y, x = (index.ravel() for index in np.indices(total.shape))
    names = [
        (
            s % across * left,
            s // across * top,
            f"z {_span_text(s, joined[0] * block_depth, depth)}",
        )
        for s in range(slices)
    ]
    return Mosaic(
        min(across, slices) * left - gap,
        math.ceil(slices / across) * top,
        (z % across * left + x + 0.5).tolist(),
        (z // across * top + y + 0.5).tolist(),
        total.ravel().tolist(),
        finished.ravel().tolist(),
        begun.ravel().tolist(),
        [_span(at, joined, grid) for at in zip(z.tolist(), y.tolist(), x.tolist(), strict=True)],
        names,
    )


def _joined(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many blocks along z, y, x make a cell."""
    z, y, x = grid
    deep = math.ceil(z / MOST_SLICES)
    wide = 1
    while math.ceil(z / deep) * math.ceil(y / wide) * math.ceil(x / wide) > MOST_CELLS:
        wide += 1
    return deep, wide, wide


def _pooled(values: np.ndarray, joined: tuple[int, int, int]) -> np.ndarray:
    """Sums of (z, y, x) over cells of `joined` blocks, smaller ones at the ends."""
    for axis, n in enumerate(joined):
        starts = np.arange(0, values.shape[axis], n)
        values = np.add.reduceat(values.astype(np.int64), starts, axis=axis)
    return values


def _across(slices: int, rows: int, columns: int, shape: float) -> int:
    """Slices in a row."""
    return max(1, min(slices, round(math.sqrt(slices * shape * rows / columns))))


def _span(at: tuple[int, ...], joined: tuple[int, ...], grid: tuple[int, ...]) -> str:
    return ", ".join(_span_text(*of) for of in zip(at, joined, grid, strict=True))


def _span_text(number: int, size: int, most: int) -> str:
    """First and last of what piece `number` holds, where pieces of `size` divide up `most`."""
    first, last = number * size, min((number + 1) * size, most) - 1
    return f"{first}" if first == last else f"{first}–{last}"
