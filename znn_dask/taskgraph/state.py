"""The state of training on one worker: kernels, momenta, biases and kernel spectra.

A state is immutable, but its arrays may still be on their way: an update step returns the new state
at once, with the jobs that fill its arrays queued in the worker's engine. Whoever reads an array
waits for its jobs, which forces them (they would otherwise run in the gaps of the next pass).
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from znn_dask.kernels.layout import kernels_from_znn, kernels_to_znn
from znn_dask.kernels.memory import aligned_copy
from znn_dask.network import Network
from znn_dask.taskgraph.census import STATES
from znn_dask.taskgraph.engine import wait
from znn_dask.taskgraph.losses import PendingLosses
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.tasks import TaskId

Parameters = dict[str, np.ndarray]
"""`"edge.filters"`: (in, out, kz, ky, kx) and `"node.biases"`: (n,), ZNN's layout."""


@dataclass(frozen=True)
class UpdateRule:
    """One update of SGD: rate, momentum, weight decay, and 1 / (patches x output voxels)."""

    eta: float
    momentum: float
    weight_decay: float
    scale: float


@dataclass
class State:
    """Parameters and momenta in the kernels' layout, with the jobs that still fill them.

    Attributes
    ----------
    step
        Updates made so far.
    kernels, velocities
        Conv edge group -> (kz, ky, kx, in, out).
    biases, bias_velocities
        Transfer node group -> (n,).
    nbytes
        Of all these, there yet or not: what travels.
    spectra
        Conv edge group -> its kernel's spectrum; dropped when the state travels.
    jobs
        Task that fills a block -> its job in this process's engine.
    losses
        Of the patches behind the last granule's updates.
    lock
        Held while an array is allocated or dropped.
    readers
        Conv edge group -> tasks under way that need its kernel's spectrum, which is there or on
        its way. Whoever has no entry has no spectrum.
    superseded
        Whether the next state has been asked for: then a spectrum goes with its last reader.
    """

    step: int
    kernels: dict[str, np.ndarray]
    velocities: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    bias_velocities: dict[str, np.ndarray]
    nbytes: int
    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    jobs: dict[TaskId, Job] = field(default_factory=dict)
    losses: tuple[PendingLosses, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    readers: dict[str, int] = field(default_factory=dict, init=False)
    superseded: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        STATES.add(self)

    def expect(self, readers: Mapping[str, int]) -> list[str]:
        """So many more tasks will read these edges' spectra; the edges that have none yet."""
        with self.lock:
            missing = [edge for edge in readers if edge not in self.readers]
            for edge, count in readers.items():
                self.readers[edge] = self.readers.get(edge, 0) + count
            return missing

    def read(self, edges: Iterable[str]) -> None:
        """A task has read these edges' spectra."""
        with self.lock:
            for edge in edges:
                self.readers[edge] -= 1
            gone = self._unneeded()
        del gone  # freed when the lock is free again

    def supersede(self) -> None:
        """The next state has been asked for: drop each spectrum when its readers are done."""
        with self.lock:
            self.superseded = True
            gone = self._unneeded()
        del gone

    def _unneeded(self) -> list[np.ndarray | None]:
        if not self.superseded:
            return []
        edges = [edge for edge, count in self.readers.items() if not count]
        for edge in edges:
            del self.readers[edge]
        return [self.spectra.pop(edge, None) for edge in edges]

    @classmethod
    def from_parameters(
        cls,
        network: Network,
        parameters: Mapping[str, np.ndarray],
        momenta: Mapping[str, np.ndarray] | None = None,
        *,
        dtype: str = "float32",
        step: int = 0,
    ) -> "State":
        """A state with nothing pending.

        Raises
        ------
        ParameterError
            If an array is missing, superfluous or of the wrong shape.
        """
        check_parameters(network, parameters)
        momenta = momenta or {}
        check_parameters(network, {**parameters, **momenta})
        numbers = 2 * sum(values.size for values in parameters.values())  # with a velocity each
        state = cls(step, {}, {}, {}, {}, numbers * np.dtype(dtype).itemsize)
        for name, values in parameters.items():
            group, what = name.rsplit(".", 1)
            velocity = momenta.get(name)
            if velocity is None:
                velocity = np.zeros_like(values)
            if what == "filters":
                state.kernels[group] = kernels_from_znn(values, dtype)
                state.velocities[group] = kernels_from_znn(velocity, dtype)
            else:
                state.biases[group] = aligned_copy(values, dtype)
                state.bias_velocities[group] = aligned_copy(velocity, dtype)
        return state

    def parameters(self) -> Parameters:
        """Copies of kernels and biases in ZNN's layout; nothing may be pending."""
        return to_znn(self.kernels, self.biases)

    def momenta(self) -> Parameters:
        """Copies of the velocities in ZNN's layout; nothing may be pending."""
        return to_znn(self.velocities, self.bias_velocities)

    def __sizeof__(self) -> int:
        return self.nbytes  # Dask asks while jobs still fill the arrays

    def __reduce__(self) -> tuple[Any, ...]:
        wait(self.jobs.values())
        arrays = (self.kernels, self.velocities, self.biases, self.bias_velocities)
        return _arrive, (self.step, self.nbytes, *arrays)


class ParameterError(ValueError):
    """Parameters that do not fit the network."""


def check_parameters(network: Network, parameters: Mapping[str, np.ndarray]) -> None:
    """Raise `ParameterError` unless names and shapes are those of `network`."""
    shapes = network.parameter_shapes()
    if missing := sorted(shapes.keys() - parameters.keys()):
        raise ParameterError(f"parameter {missing[0]!r} is missing, expected {shapes[missing[0]]}")
    if unknown := sorted(parameters.keys() - shapes.keys()):
        raise ParameterError(f"parameter {unknown[0]!r} belongs to no group of this network")
    for name, shape in shapes.items():
        if parameters[name].shape != shape:
            raise ParameterError(
                f"parameter {name!r} has shape {parameters[name].shape}, the network needs {shape}"
            )


def _arrive(step: int, nbytes: int, *groups: dict[str, np.ndarray]) -> State:
    """Rebuild a state that travelled: arrays off the network are misaligned."""
    kernels, velocities, biases, bias_velocities = (
        {name: aligned_copy(v) for name, v in group.items()} for group in groups
    )
    return State(step, kernels, velocities, biases, bias_velocities, nbytes)


def to_znn(kernels: Mapping[str, np.ndarray], biases: Mapping[str, np.ndarray]) -> Parameters:
    """Arrays of kernels and biases under their public names, copied to ZNN's layout."""
    parameters = {f"{edge}.filters": kernels_to_znn(kernels[edge]) for edge in sorted(kernels)}
    return parameters | {f"{node}.biases": biases[node].copy() for node in sorted(biases)}
