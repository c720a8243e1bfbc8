"""Plan files: an arithmetic as readable JSON, to compute the same bits elsewhere.

A file holds what `Arithmetic.to_dict` says, who chose the method of each layer and what was
measured of it, and of the network what decides whether the arithmetic fits it. It may be edited:
then its digest tells, and reading says so.
"""

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.network.geometry import show
from znn_dask.taskgraph.arithmetic import Arithmetic, PlanError
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.machine import processor

Source = Literal["default", "tuned", "given"]

_FORMAT = "znn-dask plan 1"
_LIBRARIES = ("numpy", "pyFFTW", "llvmlite")


class PlanFileWarning(UserWarning):
    """A plan file is used, but it is not what one may take it for."""


@dataclass(frozen=True)
class PlanFile:
    """What a plan file says.

    Attributes
    ----------
    arithmetic
        For `znn.plan` and `znn.Trainer`.
    sources
        Conv edge group -> "default", "tuned" or "given": who chose its method.
    measured
        Conv edge group -> method -> milliseconds, for the record.
    """

    arithmetic: Arithmetic
    sources: Mapping[str, Source]
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_plan(path: str | os.PathLike[str], network: Network, content: PlanFile) -> None:
    """Write a plan file, at once or not at all."""
    file = Path(path)
    arithmetic = content.arithmetic
    values = {
        "format": _FORMAT,
        "digest": arithmetic.digest,
        "network": _fingerprint(network),
        "made_on": {"processor": processor(), **{name: version(name) for name in _LIBRARIES}},
        "layers": {
            name: {
                "shape": shape,
                "source": content.sources[name],
                "milliseconds": content.measured.get(name, {}),
            }
            for name, shape in _shapes(network).items()
        },
        "arithmetic": arithmetic.to_dict(),
    }
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.write_text(_text(values) + "\n", encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_plan(
    path: str | os.PathLike[str],
    network: Network,
    output_size: Triple | None = None,
    dtype: str | None = None,
) -> PlanFile:
    """The plan in a file, for `network`; warns (`PlanFileWarning`) where it was edited by hand.

    Raises
    ------
    PlanError
        In one line that names both values, where the file is no plan, or one for another network,
        output size (z, y, x) or dtype.
    """
    file = Path(path)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"{file}: not JSON: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != _FORMAT:
        raise PlanError(f"{file}: format {found!r} is not {_FORMAT!r}; make one with znn-dask tune")
    try:
        arithmetic = Arithmetic.from_dict(values["arithmetic"])
        shapes = {name: layer["shape"] for name, layer in values["layers"].items()}
        sources = {name: layer["source"] for name, layer in values["layers"].items()}
        measured = {name: layer["milliseconds"] for name, layer in values["layers"].items()}
        digest, fingerprint = values["digest"], values["network"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PlanError(f"{file}: not a plan: {what}; make one with znn-dask tune") from error
    try:
        _check_network(shapes, network)
        if fingerprint != _fingerprint(network):
            raise PlanError(
                f"it is for network {fingerprint}, this one is {_fingerprint(network)}: they "
                "differ in layers that are no convolutions"
            )
        check_arithmetic(arithmetic, network, output_size, dtype)
    except PlanError as error:
        raise PlanError(f"{file}: {error}") from error
    if digest != arithmetic.digest:
        warnings.warn(
            f"{file} was edited: its arithmetic is {arithmetic.digest} now, it was {digest}",
            PlanFileWarning,
            stacklevel=2,
        )
    return PlanFile(arithmetic, sources, measured)


def check_arithmetic(
    arithmetic: Arithmetic,
    network: Network,
    output_size: Triple | None = None,
    dtype: str | None = None,
) -> None:
    """Raise PlanError, in one line, where an arithmetic is not for this network, output size
    (z, y, x) or dtype, or would compute nonsense."""
    if output_size is not None and tuple(output_size) != arithmetic.output_size:
        raise PlanError(
            f"the plan is for output size {show(arithmetic.output_size)}, asked for is "
            f"{show(output_size)}"
        )
    if dtype is not None and dtype != arithmetic.dtype:
        raise PlanError(f"the plan is for {arithmetic.dtype}, asked for is {dtype}")
    nodes = [node.name for node in network.nodes if node.type != "input"]
    convs = [edge.name for edge in network.conv_edges]
    _same_names("conv layers", arithmetic.convolutions, convs)
    _same_names("cuts of node groups", arithmetic.cuts, nodes)
    for edge, choice in arithmetic.convolutions.items():
        if choice.algorithm not in ("direct", "fft", "tiled"):
            raise PlanError(f"{edge}: algorithm {choice.algorithm!r} is none of direct, fft, tiled")
        if not (isinstance(choice.channels, int) and choice.channels > 0):
            raise PlanError(f"{edge}: blocks of {choice.channels!r} channels; give at least 1")
    for node, (axis, step, count) in arithmetic.cuts.items():
        if axis not in (0, 1, 2) or min(step, count) < 1:
            raise PlanError(
                f"{node}: cut {axis, step, count}; give an axis 0 to 2, and a step and a count of "
                "at least 1"
            )
    try:
        layers = compile_layers(network, arithmetic)
    except ValueError as error:
        raise PlanError(f"the plan does not fit the network: {error}") from error
    for edge, convolution in layers.convolutions.items():
        node = network.edge(edge).output
        cut_axis, cut_step, cut_count = arithmetic.cuts[node]
        axis, step = convolution.rows()
        whole = cut_count == 1 or cut_step >= layers.sizes[node][cut_axis]
        if layers.transformed(edge) and not whole and (cut_axis != axis or cut_step % step):
            raise PlanError(
                f"{edge} as {arithmetic.convolutions[edge].method} can be cut at multiples of "
                f"{step} along axis {axis}, the plan cuts {node} at multiples of {cut_step} along "
                f"axis {cut_axis}; let znn-dask tune --set {edge}=... make the cuts"
            )


def _check_network(shapes: Mapping[str, str], network: Network) -> None:
    here = _shapes(network)
    _same_names("conv layers", shapes, list(here))
    for name, shape in here.items():
        if shapes[name] != shape:
            raise PlanError(f"{name} is {shapes[name]} there, {shape} in this network")


def _same_names(what: str, there: Mapping[str, Any], here: list[str]) -> None:
    if set(there) != set(here):
        raise PlanError(f"it has {what} {', '.join(there)}; this network has {', '.join(here)}")


def _shapes(network: Network) -> dict[str, str]:
    """Conv edge group -> channels, kernel and dilation, for people."""
    return {
        edge.name: f"{network.node(edge.input).size}→{network.node(edge.output).size} channels, "
        f"kernel {show(edge.size)}, dilation {show(network.dilation(edge.input))}"
        for edge in network.conv_edges
    }


def _fingerprint(network: Network) -> str:
    """Of what an arithmetic must fit: groups, how they are joined and their sizes, no functions."""
    nodes = [(node.name, node.type, node.size) for node in network.nodes]
    sizes = network.sizes((1, 1, 1))
    edges = [(e.name, e.type, e.input, e.output, sizes[e.input]) for e in network.edges]
    text = json.dumps([nodes, edges])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _text(values: Mapping[str, Any], depth: int = 1) -> str:
    """JSON with a line for each entry, down to those of layers."""
    lines = []
    for key, value in values.items():
        nested = isinstance(value, dict) and any(isinstance(v, dict) for v in value.values())
        deeper = nested or key in ("made_on", "cuts")
        text = (
            _text(value, depth + 1) if deeper and value else json.dumps(value, ensure_ascii=False)
        )
        lines.append(f"{'  ' * depth}{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n" + "  " * (depth - 1) + "}"
