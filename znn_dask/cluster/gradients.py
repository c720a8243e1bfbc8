"""`gradients`: outputs and gradients of a network, for anyone who wants to check the arithmetic."""

from collections.abc import Mapping

import numpy as np
from distributed import Client
from threadpoolctl import threadpool_limits

from znn_dask.cluster import work
from znn_dask.cluster.session import Session
from znn_dask.cluster.work import TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import given_source
from znn_dask.taskgraph.state import Parameters, check_parameters

Maps = Mapping[str, np.ndarray]


def gradients(
    network: Network,
    parameters: Parameters,
    inputs: Maps,
    output_gradients: Maps,
    client: Client | None = None,
    dtype: str = "float64",
    algorithm: str = "auto",
) -> tuple[Parameters, Parameters]:
    """Outputs, and the gradients of E = sum(output_gradient * output), not divided by anything.

    Parameters
    ----------
    parameters
        `"edge.filters"` (in, out, kz, ky, kx) and `"node.biases"` (n,): ZNN's layout.
    inputs, output_gradients
        Node group -> map (c, z, y, x).
    client
        Compute on this cluster; in this process when not given. The results are the same bits.
    dtype
        "float32" or "float64".
    algorithm
        "auto", "direct", "fft" or "tiled".

    Returns
    -------
    outputs
        Output node group -> map (c, z, y, x).
    gradients
        As `parameters`.

    Raises
    ------
    NetworkError, ParameterError, ValueError
        If the arrays do not fit the network.
    """
    output_size = _check_maps(network, inputs, output_gradients)
    check_parameters(network, parameters)
    arithmetic = choose_arithmetic(network, output_size, dtype, algorithm)
    source = given_source(inputs, output_gradients, dtype)
    spec = TrainingSpec(network, arithmetic, "given", source)
    if client is None:
        engine = Engine(threads=1)
        try:
            with threadpool_limits(1):
                return work.passes(work.Context(spec, engine), parameters)
        finally:
            engine.close()
    session = Session(client, spec, whole_steps=False)
    try:
        session.start(parameters, None, 0)
        outputs, found = session.result(session.passes())
        return outputs, found
    finally:
        session.close()


def _check_maps(network: Network, inputs: Maps, output_gradients: Maps) -> Triple:
    """The output size that all maps agree on."""
    for kind, nodes, maps in (
        ("input", network.inputs, inputs),
        ("output gradient", network.outputs, output_gradients),
    ):
        names = {node.name for node in nodes}
        if maps.keys() != names:
            raise ValueError(
                f"{kind}s are given for {sorted(maps)}, the network has {sorted(names)}"
            )
    first = network.outputs[0].name
    z, y, x = output_gradients[first].shape[-3:]
    sizes = network.sizes((z, y, x))
    for node in (*network.inputs, *network.outputs):
        expected = (node.size, *sizes[node.name])
        found = (inputs if node.type == "input" else output_gradients)[node.name].shape
        if found != expected:
            raise ValueError(f"map {node.name!r} has shape {found}, expected {expected}")
    return z, y, x
