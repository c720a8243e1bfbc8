"""ZNN's .h5 networks: layers, parameters, momenta and learning curves.

A file holds one HDF5 group per layer, at the root or, with learning curves beside it, below
/processing/znn/train. ZNN writes each kernel with its first axis varying fastest, yet gives the
dataset the shape (in, out, s0, s1, s2) of the opposite order. Reading and
writing here undo and redo that.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from znn_dask.network.graph import Network
from znn_dask.network.znn_text import format_znn, parse_znn

Floats = NDArray[np.floating]
Curve = dict[str, NDArray[np.generic]]

_STANDARD_ROOT = "processing/znn/train"
_NOT_OPTIONS = ("filters", "biases", "momentum_vol", "group_type", "name")
_NUMBERS = ("size", "stride")  # options stored as whole numbers; all others are strings
_EMPTY_CURVE: Curve = {key: np.empty(0) for key in ("it", "err", "cls")}


@dataclass(frozen=True)
class ZnnFile:
    """What a ZNN .h5 file holds.

    `parameters` and `momenta` are {"edge.filters": (in, out, kz, ky, kx), "node.biases": (n,)} in
    the precision of the file. `curves` is {"train": ..., "test": ...}, each with ZNN's names: "it"
    (update), "err" (loss per element), "cls" (fraction of elements misclassified) and, if
    recorded, "re", "mc", "me"; empty when the file has none. `elapsed` is ZNN's own timing (s).
    """

    network: Network
    parameters: dict[str, Floats]
    momenta: dict[str, Floats]
    curves: dict[str, Curve] = field(default_factory=dict)
    elapsed: float = 0.0


def read_znn_h5(path: str | os.PathLike[str]) -> ZnnFile:
    """Read a ZNN .h5 network of either layout.

    Raises ValueError when the file cannot be read, has no layers, or a layer lacks its parameters
    or has them in another shape than its options say; ImportError without h5py.
    """
    h5py = _h5py()
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; check the path of the network")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise ValueError(f"{path}: not an HDF5 file; give a .h5 network of ZNN") from None
    with file:
        standard = _STANDARD_ROOT in file
        root = file[f"{_STANDARD_ROOT}/network"] if standard else file
        layers = {name: layer for name, layer in root.items() if "group_type" in layer}
        if not layers:
            raise ValueError(f"{path}: no ZNN layers in it; give a .h5 network of ZNN")
        try:
            network = _network_of(layers)
            parameters, momenta = _read_arrays(layers, network)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        curves, elapsed = _read_statistics(file[_STANDARD_ROOT]) if standard else ({}, 0.0)
    return ZnnFile(network, parameters, momenta, curves, elapsed)


def write_znn_h5(path: str | os.PathLike[str], content: ZnnFile) -> None:
    """Write a .h5 network that ZNN loads, whole or not at all, replacing a file of that name.

    Missing momenta are written as zero. Convolutions whose algorithm is open are marked for FFT.
    Raises ValueError when parameters are missing or have another shape than the network's;
    ImportError without h5py.
    """
    h5py = _h5py()
    shapes = content.network.parameter_shapes()
    _check_shapes(content.parameters, shapes)
    if unknown := content.momenta.keys() - shapes:
        raise ValueError(
            f"the network has no parameter {min(unknown)!r} for a momentum; "
            f"it has {', '.join(shapes)}"
        )
    _check_shapes(content.momenta, {name: shapes[name] for name in content.momenta})
    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with h5py.File(draft, "x") as file:
            root = file.create_group(_STANDARD_ROOT)
            _write_layers(root.create_group("network"), content)
            statistics = root.create_group("statistics")
            for name in ("train", "test"):
                curve = _EMPTY_CURVE | content.curves.get(name, {})
                for key, values in curve.items():
                    statistics[f"{name}/{key}"] = values
            statistics["elapsed"] = np.float64(content.elapsed)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(
            "ZNN .h5 files need the package h5py; run: pip install 'znn-dask[interop]'"
        ) from None
    return h5py


def _from_file_order(stored: Floats) -> Floats:
    """Kernels (in, out, kz, ky, kx) from a dataset of that shape; biases (n,) as they are."""
    if stored.ndim != 5:
        return stored
    n, m, kz, ky, kx = stored.shape
    return np.ascontiguousarray(stored.reshape(n, m, kx, ky, kz).transpose(0, 1, 4, 3, 2))


def _to_file_order(array: Floats) -> Floats:
    """Inverse of `_from_file_order`."""
    if array.ndim != 5:
        return array
    return np.ascontiguousarray(array.transpose(0, 1, 4, 3, 2)).reshape(array.shape)


def _network_of(layers: Mapping[str, Any]) -> Network:
    """The network that the options of the layers describe, groups in order of computation."""
    lines = []
    for name, layer in layers.items():
        lines.append(f"{_word(layer['group_type'])}s {name}")
        options = (key for key in layer if key not in _NOT_OPTIONS)
        lines.extend(f"{key} {_word(layer[key])}" for key in options)
    unordered = parse_znn("\n".join(lines))
    order = {node.name: i for i, node in enumerate(unordered.topological)}
    edges = sorted(unordered.edges, key=lambda edge: (order[edge.input], order[edge.output]))
    return Network(nodes=unordered.topological, edges=tuple(edges))


def _word(dataset: Any) -> str:
    """An option as in a .znn file: a string, or numbers with commas between."""
    value = dataset[()]
    if isinstance(value, bytes):
        return value.decode()
    return ",".join(map(str, np.atleast_1d(value)))


def _read_arrays(
    layers: Mapping[str, Any], network: Network
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    shapes = network.parameter_shapes()
    parameters, momenta = {}, {}
    for parameter in shapes:
        name, key = parameter.rsplit(".", 1)
        layer = layers[name]
        if key not in layer:
            raise ValueError(f"layer {name!r} has no {key}; give a file written by ZNN")
        parameters[parameter] = _from_file_order(layer[key][()])
        velocity = layer["momentum_vol"][()] if "momentum_vol" in layer else None
        momenta[parameter] = (
            np.zeros_like(parameters[parameter]) if velocity is None else _from_file_order(velocity)
        )
    _check_shapes(parameters, shapes)
    _check_shapes(momenta, shapes)
    return parameters, momenta


def _check_shapes(arrays: Mapping[str, Floats], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"parameter {name!r} is missing; give an array of {shape}")
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name!r} has shape {arrays[name].shape} and the network wants {shape}; "
                "give the network these parameters belong to"
            )


def _read_statistics(root: Any) -> tuple[dict[str, Curve], float]:
    if "statistics" not in root:
        return {}, 0.0
    statistics = root["statistics"]
    curves = {
        curve: {key: values[()] for key, values in statistics[curve].items()}
        for curve in ("train", "test")
        if curve in statistics
    }
    elapsed = float(statistics["elapsed"][()]) if "elapsed" in statistics else 0.0
    return curves, elapsed


def _write_layers(root: Any, content: ZnnFile) -> None:
    shapes = content.network.parameter_shapes()
    for title, *options in _groups(format_znn(content.network)):
        plural, name = title
        layer = root.create_group(name)
        layer["group_type"], layer["name"] = plural.removesuffix("s"), name
        for key, value in options:
            layer[key] = [int(n) for n in value.split(",")] if key in _NUMBERS else value
        if layer["type"][()] == b"conv" and "fft" not in layer:
            layer["fft"] = "1"
        for parameter in (f"{name}.filters", f"{name}.biases"):
            if parameter in shapes:
                values = content.parameters[parameter]
                layer[parameter.rsplit(".", 1)[1]] = _to_file_order(values)
                momentum = content.momenta.get(parameter, np.zeros_like(values))
                layer["momentum_vol"] = _to_file_order(momentum)


def _groups(text: str) -> list[list[tuple[str, str]]]:
    """The (key, value) lines of each group of a .znn text; its title first."""
    return [
        [(key, value) for key, value, *_ in (line.split() for line in group.splitlines())]
        for group in text.split("\n\n")
    ]
