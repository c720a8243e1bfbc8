"""Meshes in files: Neuroglancer's precomputed meshes, and .ply, .obj and .glb by trimesh."""

import json
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from znn_dask.neurons.errors import extra
from znn_dask.neurons.files import write_json, write_whole
from znn_dask.neurons.triangles import Mesh

Format = Literal["precomputed", "ply", "obj", "glb"]
FORMATS = get_args(Format)


def mesh_file(number: int, format: Format) -> str:
    """Name of the file that is written last of an object."""
    return f"{number}:0" if format == "precomputed" else f"{number}.{format}"


def write_mesh(folder: Path, mesh: Mesh, format: Format) -> None:
    """Write a mesh into a folder; its last file (`mesh_file`) appears whole.

    precomputed: Neuroglancer's legacy mesh of one resolution, a manifest `<id>:0` that names the
    one fragment `<id>.mesh`.
    """
    target = folder / mesh_file(mesh.number, format)
    if format != "precomputed":
        shape = extra("trimesh").Trimesh(mesh.vertices, mesh.faces, process=False)
        write_whole(target, lambda path: shape.export(path))
        return
    fragment = f"{mesh.number}.mesh"
    content = (
        np.uint32(len(mesh.vertices)).tobytes()
        + mesh.vertices.astype("<f4").tobytes()
        + mesh.faces.astype("<u4").tobytes()
    )
    write_whole(folder / fragment, lambda path: path.write_bytes(content))
    write_json(target, {"fragments": [fragment]})


def write_info(folder: Path) -> None:
    """What tells Neuroglancer that the folder holds meshes."""
    write_json(folder / "info", {"@type": "neuroglancer_legacy_mesh"})


def read_mesh(folder: Path, number: int, format: Format) -> Mesh:
    """A mesh that `write_mesh` has written."""
    if format != "precomputed":
        shape = extra("trimesh").load_mesh(folder / mesh_file(number, format), process=False)
        return Mesh(number, shape.vertices.astype(np.float32), shape.faces.astype(np.uint32))
    manifest = json.loads((folder / mesh_file(number, format)).read_text(encoding="utf-8"))
    content = (folder / manifest["fragments"][0]).read_bytes()
    n = int(np.frombuffer(content, "<u4", 1)[0])
    vertices = np.frombuffer(content, "<f4", 3 * n, 4).reshape(n, 3)
    faces = np.frombuffer(content, "<u4", offset=4 + 12 * n).reshape(-1, 3)
    return Mesh(number, vertices, faces)
