"""A page with objects in 3D: one file, which opens by a double click and needs no network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from distributed import Client

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.ambient import openness
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.files import local_path, write_whole
from znn_dask.neurons.packing import compressed, pack_mesh
from znn_dask.neurons.reduced import Reduced, reduce_image
from znn_dask.neurons.shown import Shown, chosen_meshes
from znn_dask.report.colours import PALETTE


@dataclass(frozen=True)
class View:
    """A page that shows objects in 3D. In a notebook it shows itself.

    html: the whole page. ids: the objects on it.
    """

    html: str
    title: str
    ids: Sequence[int]
    height: int = 560

    def save(self, path: str | Path) -> Path:
        """Write the page as one file, which appears whole; returns its path."""
        target = local_path(path)
        write_whole(target, lambda temporary: temporary.write_text(self.html, encoding="utf-8"))
        return target

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{escape(self.title)}" srcdoc="{escape(self.html)}" '
            f'style="width: 100%; height: {self.height}px; border: 0; border-radius: 10px">'
            "</iframe>"
        )


def view(
    objects: Any,
    image: Any = None,
    *,
    ids: Sequence[int] | None = None,
    largest: int | None = 20,
    triangles: int = 400_000,
    image_voxels: int = 3_000_000,
    title: str | None = None,
    client: Client | None = None,
    voxel_size: VoxelSize | None = None,
    progress: bool = True,
) -> View:
    """Show objects in 3D, on a page to turn, zoom and pick in, with slices of the image.

    Parameters
    ----------
    objects
        Ids (z, y, x) as for `mesh`; or meshes that `mesh` has made, or their folder.
    image
        (z, y, x) or (c, z, y, x), of which the first channel is shown, at the same place.
    ids, largest
        The objects shown: those named, or the so many largest.
    triangles
        Of all objects together; more show finer detail and make a larger file.
    image_voxels
        To which the image is reduced.
    title
        Default the name of the objects.
    client
        Dask client whose workers compute; None: threads here.
    voxel_size
        (z, y, x) nm, default what the volume records.

    Raises
    ------
    NeuronError, VolumeError
        For what cannot be shown, in one line.
    """
    if image_voxels < 1000:
        raise NeuronError(f"{image_voxels} voxels of the image show nothing; allow 1000 or more")
    shown = chosen_meshes(
        objects,
        ids=ids,
        largest=largest,
        triangles=triangles,
        client=client,
        voxel_size=voxel_size,
        progress=progress,
    )
    reduced = None if image is None else reduce_image(image, image_voxels, voxel_size=voxel_size)
    name = title or shown.name
    return View(_page(name, shown, reduced), name, [m.number for m in shown.meshes])


def _page(title: str, shown: Shown, image: Reduced | None) -> str:
    parts: list[bytes] = []
    at = 0
    described = []
    for rank, (made, voxels) in enumerate(zip(shown.meshes, shown.voxels, strict=True)):
        spacing = float(np.sqrt(made.area / max(1, len(made.faces))))
        light = openness(made.vertices, made.normals(), cell=spacing)
        content, low, size = pack_mesh(made.vertices, made.faces, light)
        described.append(
            {
                "id": made.number,
                "colour": [round(float(c), 4) for c in PALETTE[rank]],
                "voxels": voxels,
                "volume": made.volume,
                "vertices": len(made.vertices),
                "triangles": len(made.faces),
                "origin": low.tolist(),
                "size": size.tolist(),
                "at": at,
            }
        )
        parts.append(content)
        at += len(content)
    low = np.min([m.vertices.min(axis=0) for m in shown.meshes], axis=0)
    high = np.max([m.vertices.max(axis=0) for m in shown.meshes], axis=0)
    scene: dict[str, Any] = {
        "objects": described,
        "summary": f"{len(shown.meshes)} objects in {_extent(high - low)}",
    }
    if image is not None:
        low, high = np.minimum(low, image.origin), np.maximum(high, image.origin + image.size)
        scene["image"] = {
            "shape": image.voxels.shape,
            "origin": image.origin.tolist(),
            "size": image.size.tolist(),
            "part": image.part.tolist(),
            "at": at,
        }
        parts.append(image.voxels.tobytes())
    scene["bounds"] = [low.tolist(), high.tolist()]
    page = files("znn_dask.neurons") / "page"
    texts = {kind: (page / f"viewer.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    return Template(texts["html"]).substitute(
        title=escape(title),
        style=texts["css"],
        script=texts["js"],
        scene=json.dumps(scene).replace("<", "\\u003c"),
        data=compressed(parts),
    )


def _extent(nm: np.ndarray) -> str:
    return " × ".join(f"{length / 1000:.3g}" for length in nm) + " µm (x, y, z)"
