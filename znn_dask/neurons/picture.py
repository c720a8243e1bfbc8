"""A still picture of objects in 3D, computed without a graphics card or a display."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from distributed import Client
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.ambient import openness
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.files import local_path, write_whole
from znn_dask.neurons.light import shaded
from znn_dask.neurons.rasterise import barycentric, rasterise
from znn_dask.neurons.shown import Shown, chosen_meshes
from znn_dask.neurons.triangles import Mesh
from znn_dask.report.colours import PALETTE

Background = Literal["white", "dark"]
_INK = {"white": ((255, 255, 255), (27, 31, 38)), "dark": ((16, 19, 24), (232, 234, 238))}
_FINE = 2
"""Pixels are computed so many times finer, across and down, and averaged."""


@dataclass(frozen=True)
class Picture:
    """A picture, (rows, columns, 3) uint8 RGB. In a notebook it shows itself."""

    pixels: np.ndarray

    def save(self, path: str | Path) -> Path:
        """Write it as .png, or what the ending says; the file appears whole. Returns its path."""
        target = local_path(path)
        write_whole(target, lambda temporary: Image.fromarray(self.pixels).save(temporary))
        return target

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "png", optimize=True)
        return buffer.getvalue()


def turned(azimuth: float, elevation: float) -> np.ndarray:
    """(3, 3) rows: right, up and towards the eye, in x, y, z. 0, 0 looks along z, y downwards."""
    a, e = np.radians([azimuth, elevation])
    right = np.array([np.cos(a), 0, np.sin(a)])
    towards = np.array([np.sin(a) * np.cos(e), -np.sin(e), -np.cos(a) * np.cos(e)])
    return np.stack([right, np.cross(towards, right), towards])


@dataclass(frozen=True)
class _Scene:
    """All meshes as one. vertices: (n, 3) right, up, towards, nm; owners: mesh of each vertex."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    owners: np.ndarray
    openness: np.ndarray


def _scene(meshes: Sequence[Mesh], turn: np.ndarray) -> _Scene:
    vertices = np.concatenate([m.vertices.astype(np.float64) for m in meshes]) @ turn.T
    normals = np.concatenate([m.normals() for m in meshes]) @ turn.T
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = np.concatenate(
        [m.faces.astype(np.int64) + s for m, s in zip(meshes, starts, strict=False)]
    )
    owners = np.repeat(np.arange(len(meshes)), np.diff(starts))
    cell = float(np.sqrt(sum(m.area for m in meshes) / len(faces)))
    return _Scene(vertices, normals, faces, owners, openness(vertices, normals, cell=cell))


def picture(
    objects: Any,
    *,
    ids: Sequence[int] | None = None,
    largest: int | None = 20,
    size: int = 1600,
    background: Background = "white",
    azimuth: float = 35.0,
    elevation: float = 25.0,
    triangles: int = 600_000,
    client: Client | None = None,
    voxel_size: VoxelSize | None = None,
    progress: bool = True,
) -> Picture:
    """Draw objects in 3D, with a scale bar that holds everywhere (parallel projection).

    Parameters
    ----------
    objects
        Ids (z, y, x) as for `mesh`; or meshes that `mesh` has made, or their folder.
    ids, largest
        The objects shown: those named, or the so many largest.
    size
        Pixels of the longer side.
    background
        "white" or "dark".
    azimuth, elevation
        Degrees by which the eye goes right and up; 0, 0 looks along z.
    triangles
        Of all objects together.
    client
        Dask client whose workers compute the meshes; None: threads here.
    voxel_size
        (z, y, x) nm, default what the volume records.

    Raises
    ------
    NeuronError, VolumeError
        For what cannot be shown, in one line.
    """
    if size < 100 or background not in _INK:
        raise NeuronError(
            f"size {size}, background {background!r}: use 100 or more, and white or dark"
        )
    shown = chosen_meshes(
        objects,
        ids=ids,
        largest=largest,
        triangles=triangles,
        client=client,
        voxel_size=voxel_size,
        progress=progress,
    )
    turn = turned(azimuth, elevation)
    return Picture(_drawn(shown, turn, size, background))


def _drawn(shown: Shown, turn: np.ndarray, size: int, background: Background) -> Any:
    meshes = shown.meshes
    scene = _scene(meshes, turn)
    low = np.min([m.vertices.min(axis=0) for m in meshes], axis=0)
    high = np.max([m.vertices.max(axis=0) for m in meshes], axis=0)
    corners = np.array([[(low, high)[k >> a & 1][a] for a in range(3)] for k in range(8)]) @ turn.T
    left, bottom = corners[:, :2].min(axis=0)
    extent = corners[:, :2].max(axis=0) - (left, bottom)
    border = round(0.04 * size)
    per_pixel = extent.max() / (size - 2 * border)
    columns, rows = (int(n) for n in np.ceil(extent / per_pixel) + 2 * border)
    rows += border // 2  # for the scale bar

    def to_pixels(points: np.ndarray) -> np.ndarray:
        x = (points[:, 0] - left) / per_pixel + border
        y = (bottom + extent[1] - points[:, 1]) / per_pixel + border
        return np.stack([x, y, points[:, 2] / per_pixel], axis=1) * _FINE

    seen, depth = rasterise(to_pixels(scene.vertices), scene.faces, (rows * _FINE, columns * _FINE))
    back, ink = (np.array(c) / 255 for c in _INK[background])
    fine = _coloured(scene, to_pixels(scene.vertices), seen, back)
    _contours(fine, scene, seen, depth)
    _box(fine, depth, to_pixels(corners), 0.55 * back + 0.45 * ink)
    shape = (rows, _FINE, columns, _FINE, 3)
    pixels = np.rint(255 * fine.reshape(shape).mean(axis=(1, 3))).astype(np.uint8)
    voxel = " × ".join(f"{edge:g}" for edge in shown.voxel_size)
    note = f"{len(meshes)} objects, voxels of {voxel} nm (z, y, x)"
    return _annotated(pixels, per_pixel, turn, note, _INK[background][1], border)


def _coloured(scene: _Scene, pixels: np.ndarray, seen: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(rows, columns, 3) float32 of what is seen, fading a little with the distance."""
    picture = np.empty((*seen.shape, 3), np.float32)
    picture[...] = back
    deep, near = np.percentile(scene.vertices[:, 2], (0, 100))
    for row in range(0, len(seen), 256):
        part = seen[row : row + 256]
        y, x = np.nonzero(part >= 0)
        faces = scene.faces[part[y, x]]
        across, down = pixels[faces, :2].T
        weights = barycentric(across, down, x + 0.5, y + row + 0.5).T
        normals = np.einsum("nk,nkd->nd", weights, scene.normals[faces])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        light = np.einsum("nk,nk->n", weights, scene.openness[faces])
        height = np.einsum("nk,nk->n", weights, scene.vertices[faces, 2])
        colours = shaded(PALETTE[scene.owners[faces[:, 0]]], normals, light)
        far = 0.35 * ((near - height) / max(near - deep, 1e-9))[:, None]
        picture[row + y, x] = colours * (1 - far) + back * far
    return picture


def _contours(picture: np.ndarray, scene: _Scene, seen: np.ndarray, depth: np.ndarray) -> None:
    """Darken the rear side where one surface passes before another."""
    owners = np.where(seen >= 0, scene.owners[scene.faces[seen, 0]], -1)
    jump = 0.004 * max(seen.shape)
    for axis in (0, 1):
        first = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        for here, there in ((first, second), (second, first)):
            with np.errstate(invalid="ignore"):  # two pixels of background
                behind = depth[there] - depth[here] > jump
            edge = behind & (seen[here] >= 0) | (owners[here] != owners[there]) & (
                depth[there] >= depth[here]
            ) & (seen[here] >= 0)
            picture[here][edge] *= 0.55


def _box(picture: np.ndarray, depth: np.ndarray, corners: np.ndarray, colour: np.ndarray) -> None:
    """The edges of the box around all, where nothing hides them."""
    for k in range(8):
        for axis in range(3):
            other = k | 1 << axis
            if other == k:
                continue
            length = np.abs(corners[other] - corners[k])[:2].max()
            along = np.linspace(0, 1, max(2, int(2 * length)))[:, None]
            points = corners[k] + along * (corners[other] - corners[k])
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                x, y = (points[:, :2] + (dx - 0.5, dy - 0.5)).astype(np.int64).T
                clear = points[:, 2] >= depth[y, x] - 2
                picture[y[clear], x[clear]] = colour


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), pixels)


def length_text(nm: float) -> str:
    """A length of a scale bar, such as 500 nm or 2 µm."""
    return f"{nm:g} nm" if nm < 1000 else f"{nm / 1000:g} µm"


def _annotated(
    pixels: np.ndarray,
    per_pixel: float,
    turn: np.ndarray,
    note: str,
    ink: tuple[int, int, int],
    border: int,
) -> np.ndarray:
    """The picture with a scale bar, a note and the directions of the axes below it."""
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    font = _font(max(11, round(0.36 * border)))
    most = 0.22 * pixels.shape[1] * per_pixel
    power = 10.0 ** np.floor(np.log10(most))
    bar = max(k * power for k in (1, 2, 5) if k * power <= most)
    bottom = pixels.shape[0] - border // 2
    thick = max(2, border // 12)
    pen.rectangle((border, bottom - thick, border + bar / per_pixel, bottom), fill=ink)
    pen.text((border, bottom - 2 * thick), length_text(bar), ink, font, anchor="ls")
    pen.text((pixels.shape[1] / 2, bottom), note, ink, font, anchor="ms")
    arm = 0.75 * border
    middle = np.array([pixels.shape[1] - border - arm, bottom - arm])
    for axis in np.argsort(turn[2]):
        end = turn[:2, axis] * (1, -1)
        colour = ((224, 96, 94), (95, 174, 98), (91, 141, 239))[axis]
        pen.line((*middle, *(middle + arm * end)), colour, thick)
        pen.text(tuple(middle + 1.35 * arm * end), "xyz"[axis], ink, font, anchor="mm")
    return np.asarray(image)
