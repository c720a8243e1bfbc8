"""Transforms of the planes of a map, all tiles of a plane, to half spectra and back.

A map is seen here as (depth, b, c, channel), where depth is the axis along which passes are cut
into blocks. A half spectrum is transformed along b and c only::

    half spectrum (frequency of the plane, depth, 2, tile, channel)

with real and imaginary parts apart and tiles in the order (b tile, b phase, c tile, c phase).
Frequencies (fc, fb) have fc halved, for points are real. Where fc is its own mirror image, lines
along b are real as well, and fb is halved too: see `Frequencies`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from znn_dask.kernels.codelets import (
    ALL,
    Points,
    complex_to_complex,
    half_to_real,
    points_below,
    real_to_half,
)
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.jit import Call, Compiled, registers
from znn_dask.kernels.memory import ALIGNMENT, empty
from znn_dask.kernels.values import Integer

Plane = tuple[AxisTiles, AxisTiles]
Way = Literal["forward", "set", "add"]  # the latter two of inverse transforms


@dataclass(frozen=True)
class Frequencies:
    """Frequencies of a plane with edges b and c: those that no other mirrors."""

    b: int
    c: int

    @property
    def along_c(self) -> int:
        return self.c // 2 + 1

    @property
    def mirrored(self) -> int:
        """From this fc on, and at 0, an fc is its own mirror image, and has `halved` fb."""
        return self.along_c - 1 if self.c % 2 == 0 else self.along_c

    @property
    def halved(self) -> int:
        return self.b // 2 + 1

    @property
    def count(self) -> int:
        own = 1 + self.along_c - self.mirrored
        return self.along_c * self.b - own * (self.b - self.halved)

    def arguments(self) -> dict[str, int]:
        return {
            "frequencies_b": self.b,
            "frequencies_c": self.along_c,
            "mirrored": self.mirrored,
            "halved": self.halved,
        }


def along_b(f: Formula, fc: Integer) -> tuple[Integer, Integer]:
    """(first frequency of the plane, count of them) at `fc`."""
    first = fc * f["frequencies_b"] - f.select(
        fc, 1, f.integer(0), f["frequencies_b"] - f["halved"]
    )
    return first, choose(f, fc, f["halved"], f["frequencies_b"])


def choose(f: Formula, fc: Integer, mirrored: Integer, other: Integer) -> Integer:
    """`mirrored` where fc is its own mirror image, else `other`."""
    return f.select(fc, 1, mirrored, f.select(fc, f["mirrored"], other, mirrored))


STAGE_BYTES = 1_200_000
"""The spectrum of a plane is gathered in the second-level cache where it is not larger."""

_LINES_BYTES = 40_000  # transformed lines of a tile, in the nearest cache
_ARGUMENTS = (
    *("lines", "columns", "depth", "map", "map_depth", "map_b", "map_c", "size_b", "size_c"),
    *("tiles_b", "step_b", "phases_b", "dilation_b", "points_b"),
    *("tiles_c", "step_c", "phases_c", "dilation_c"),
    *("frequencies_b", "frequencies_c", "mirrored", "halved", "real_columns"),
    *("half", "half_depth", "half_f", "half_part", "half_tile"),
    *("channels", "at_once", "buffer", "buffer_line", "stage", "stage_depth", "staged"),
)


def forward(plane: Plane, x: np.ndarray, half: np.ndarray, points: tuple[Points, Points]) -> None:
    """Transform the planes of map x into `half`: `points` (first, count) of each tile's edges are
    those of the map, from its first voxel, the others zero."""
    _run("forward", plane, x, half, points)


def inverse(
    plane: Plane, half: np.ndarray, y: np.ndarray, points: tuple[Points, Points], add: bool
) -> None:
    """Transform `half` back, times the number of points of a plane: `points` (first, count) of each
    tile's edges are set in the planes of map y from its first voxel, or added to them."""
    _run("add" if add else "set", plane, y, half, points)


def _run(way: Way, plane: Plane, x: np.ndarray, half: np.ndarray, points: Any) -> None:
    shapes = (x.shape, x.strides, half.shape, half.strides)
    call, stage_bytes, scratch_bytes = _prepared(way, plane, points, x.dtype, *shapes)
    scratch = empty((scratch_bytes,), np.uint8)
    start, spectrum = scratch.ctypes.data, half.ctypes.data
    call(x.ctypes.data, spectrum, start + stage_bytes, start if stage_bytes else spectrum)


@cache
def _prepared(
    way: Way,
    plane: Plane,
    points: tuple[Points, Points],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    half_shape: tuple[int, ...],
    half_strides: tuple[int, ...],
) -> tuple[Call, int, int]:
    """(call for arrays of these shapes, bytes of its stage, and with its buffer behind that)."""
    (b, c), item = plane, dtype.itemsize
    depth, size_b, size_c, channels = shape
    inside = _inside(plane, (size_b, size_c), points)
    if way == "forward":
        lines = real_to_half(c.edge, points[1], dtype, inside)
        columns = complex_to_complex(b.edge, -1, points[0], (0, b.edge), False, dtype, True)
        real_columns = real_to_half(b.edge, points[0], dtype, True)
    else:
        lines = half_to_real(c.edge, points[1], way == "add", dtype, inside)
        columns = complex_to_complex(b.edge, 1, (0, b.edge), points[0], False, dtype, True)
        real_columns = half_to_real(b.edge, points[0], False, dtype, True)
    points_b, frequencies = points[0][1], Frequencies(b.edge, c.edge)
    lanes = registers().bytes // item
    most = max(1, _LINES_BYTES // (points_b * frequencies.along_c * 2 * lanes * item))
    groups = -(-channels // (most * lanes))
    at_once = -(-channels // (groups * lanes)) * lanes
    buffer_line = 2 * frequencies.along_c * at_once * item + ALIGNMENT
    plane_bytes = half_shape[0] * half_strides[0]
    # What is written here and there is gathered in the second-level cache, and copied in order:
    # where each plane is one range of memory that `half` covers, and fits.
    packed = half_strides[2] == half_shape[3] * half_strides[3] == math.prod(half_shape[3:]) * item
    staged = way == "forward" and packed and plane_bytes <= min(half_strides[1], STAGE_BYTES)
    arguments = {
        "lines": lines.address,
        "columns": columns.address,
        "real_columns": real_columns.address,
        "depth": depth,
        "size_b": size_b,
        "size_c": size_c,
        "points_b": points_b,
        "channels": channels,
        "at_once": at_once,
        "buffer_line": buffer_line,
        "stage_depth": 0 if staged else half_strides[1],
        "staged": plane_bytes if staged else 0,
    }
    arguments |= frequencies.arguments()
    arguments |= zip(("map_depth", "map_b", "map_c"), strides[:3], strict=True)
    arguments |= zip(
        ("half_f", "half_depth", "half_part", "half_tile"), half_strides[:4], strict=True
    )
    for name, axis in (("b", b), ("c", c)):
        for what in ("tiles", "step", "phases", "dilation"):
            arguments[f"{what}_{name}"] = getattr(axis, what)
    loops = _forward(dtype) if way == "forward" else _inverse(dtype)
    call = loops.bind("map", "half", "buffer", "stage", **arguments)
    stage_bytes = -(-plane_bytes // ALIGNMENT) * ALIGNMENT if staged else 0
    return call, stage_bytes, stage_bytes + points_b * buffer_line


def _inside(plane: Plane, sizes: tuple[int, int], points: tuple[Points, Points]) -> bool:
    """Whether `points` of all tiles lie within a plane of `sizes`."""
    return all(
        (axis.tiles - 1) * axis.step + axis.phases - 1 + (count - 1) * axis.dilation < size
        for axis, (_, count), size in zip(plane, points, sizes, strict=True)
    )


@cache
def _forward(dtype: np.dtype[Any]) -> Compiled:
    """`lines` along c into the buffer, then `columns` along b into the stage."""
    f = Formula("plane_forward", _ARGUMENTS, dtype)
    with f.loop(f["depth"]) as d:
        stage = f["stage"] + f["stage_depth"] * d
        with _tiles(f, stage, d) as (half, voxel, first_b, points_c, part, channels):
            with f.loop(f["points_b"]) as j:
                f.call(
                    f["lines"],
                    *(voxel + f["map_b"] * f["dilation_b"] * j, f["map_c"] * f["dilation_c"], 0),
                    *(_within(f, first_b + j * f["dilation_b"], points_c), 0),
                    *(f["buffer"] + f["buffer_line"] * j, part * 2, part, ALL, channels),
                )
            with f.loop(f["frequencies_c"]) as k:
                first, _ = along_b(f, k)
                f.call(
                    choose(f, k, f["real_columns"], f["columns"]),
                    *(f["buffer"] + k * part * 2, f["buffer_line"], part, ALL, 0),
                    *(half + f["half_f"] * first, f["half_f"], f["half_part"], ALL, channels),
                )
        f.copy(stage, f["half"] + f["half_depth"] * d, f["staged"])
    return f.compile()


@cache
def _inverse(dtype: np.dtype[Any]) -> Compiled:
    """`columns` along b into the buffer, then `lines` along c."""
    f = Formula("plane_inverse", _ARGUMENTS, dtype)
    with f.loop(f["depth"]) as d:
        source = f["half"] + f["half_depth"] * d
        with _tiles(f, source, d) as (half, voxel, first_b, points_c, part, channels):
            with f.loop(f["frequencies_c"]) as k:
                first, _ = along_b(f, k)
                f.call(
                    choose(f, k, f["real_columns"], f["columns"]),
                    *(half + f["half_f"] * first, f["half_f"], f["half_part"], ALL, 0),
                    *(f["buffer"] + k * part * 2, f["buffer_line"], part, ALL, channels),
                )
            with f.loop(f["points_b"]) as j:
                f.call(
                    f["lines"],
                    *(f["buffer"] + f["buffer_line"] * j, part * 2, part, ALL, 0),
                    *(voxel + f["map_b"] * f["dilation_b"] * j, f["map_c"] * f["dilation_c"], 0),
                    *(_within(f, first_b + j * f["dilation_b"], points_c), channels),
                )
    return f.compile()


def _within(f: Formula, position: Integer, points_c: Integer) -> Integer:
    """Points of a line within the map: none where the line itself is not."""
    return f.select(position, f["size_b"], points_c, f.integer(0))


@contextmanager
def _tiles(f: Formula, half: Integer, d: Integer) -> Iterator[tuple[Integer, ...]]:
    """Loops over the tiles of plane d and groups of channels: (half spectrum, first voxel and its
    position along b, points along c within the map, bytes of a row of the buffer, channels)."""
    with (
        f.loop(f["tiles_b"]) as tile_b,
        f.loop(f["phases_b"]) as phase_b,
        f.loop(f["tiles_c"]) as tile_c,
        f.loop(f["phases_c"]) as phase_c,
        f.loop(f["channels"], f["at_once"]) as channel,
    ):
        first_b, first_c = tile_b * f["step_b"] + phase_b, tile_c * f["step_c"] + phase_c
        row_of_tiles = (tile_b * f["phases_b"] + phase_b) * f["tiles_c"]
        tile = (row_of_tiles + tile_c) * f["phases_c"] + phase_c
        offset = channel * f.itemsize
        yield (
            half + f["half_tile"] * tile + offset,
            f["map"] + f["map_depth"] * d + f["map_b"] * first_b + f["map_c"] * first_c + offset,
            first_b,
            points_below(f["size_c"], first_c, f["dilation_c"]),
            f["at_once"] * f.itemsize,
            f.smaller(f["channels"] - channel, f["at_once"]),
        )
