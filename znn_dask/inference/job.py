"""What one block task does: read, compute, write, mark."""

import functools
import os
import socket
import time
import weakref
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import zarr
from threadpoolctl import threadpool_limits

from znn_dask.data.preprocessing import Preprocessing
from znn_dask.inference.augment import Variant, average
from znn_dask.inference.blocks import Block, BlockPlan, Box, Triple, box, triple
from znn_dask.inference.border import read_box, symmetric_index
from znn_dask.inference.store import Markers
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.rule import Priority
from znn_dask.taskgraph.timeline import Tally

Maps = dict[str, np.ndarray]

# uint8 output: 255 means 1.
UINT8_LEVELS = 255


class Forward(Protocol):
    """A network with parameters at one output size: maps (z,y,x,c) by node; thread-safe."""

    def __call__(
        self, inputs: Maps, engine: Engine | None = None, priority: Priority = (0,)
    ) -> Maps: ...


class Lanes:
    """Where one run's blocks are computed in a process: `patches` of them are under way at a time,
    and an engine of `threads` threads computes their typed tasks, the earlier block's first.

    Engine and pool live as long as the run, so FFT plans and buffers, kept per thread, last. Their
    threads end when nothing holds the lanes any more. The tasks are counted under `name`.
    """

    def __init__(self, patches: int, threads: int, name: str = "") -> None:
        self.engine = Engine(threads, tally=Tally(name))
        weakref.finalize(self, self.engine.shrink, threads)
        self.pool = ThreadPoolExecutor(patches, "predict-patch")
        # One BLAS thread per engine thread. Worker processes begin with this limit, but workers
        # within another process do not.
        self.limits = threadpool_limits(1)


@dataclass(frozen=True)
class BlockReport:
    """What the driver is told about a finished block: tiny, as it crosses the network."""

    index: int
    voxels: int


@dataclass(frozen=True, eq=False)
class Job:
    """A prediction as its block tasks see it; picklable, the same for all blocks.

    plan: which block is where
    forward: pass for each output size that occurs (a transpose may add a second one)
    images: array (z,y,x) or (c,z,y,x) of each input node
    preprocessing: of each input node's image, fitted
    output: name of the output node
    softmax: whether the channels of the output go through a softmax
    variants: the flips and transposes to average over, the identity first
    affinity: whether the channels are affinities x, y, z
    target: the output array (c,z,y,x), float32, float64 or uint8
    """

    plan: BlockPlan
    forward: Mapping[Triple, Forward]
    images: Mapping[str, Any]
    preprocessing: Mapping[str, Preprocessing]
    output: str
    softmax: bool
    variants: tuple[Variant, ...]
    affinity: bool
    target: zarr.Array
    markers: Markers

    def read(self, block: Block) -> Maps:
        """Preprocessed input maps (z,y,x,c) float32 of a block."""
        inputs = {}
        for node, image in self.images.items():
            region = self.plan.input_box(node, block.compute)
            # Each slice keeps its own statistics, also where it appears as a mirror image.
            z = symmetric_index(np.arange(region[0].start, region[0].stop), image.shape[-3])
            voxels = self.preprocessing[node].apply(read_box(image, region), z)
            maps = voxels[np.newaxis] if voxels.ndim == 3 else voxels
            inputs[node] = np.ascontiguousarray(np.moveaxis(maps, 0, -1), dtype=np.float32)
        return inputs

    def compute(self, inputs: Maps, block: Block, engine: Engine) -> np.ndarray:
        """Predictions (z,y,x,c) over `block.write`."""
        keep = self.plan.to_dense(block.write)
        run = functools.partial(self._pass, inputs, engine, (block.index,))
        if len(self.variants) == 1:
            y = run(self.variants[0])
            return y[tuple(_within(keep, block.compute))]
        mirror = self.plan.border == "mirror"
        # Mirrored voxels can be predicted everywhere; valid ones only inside.
        known = block.compute if mirror else box((0, 0, 0), self.plan.valid_shape)
        return average(
            run,
            self.variants,
            self.affinity,
            compute=block.compute,
            keep=keep,
            known=known,
        )

    def _pass(
        self, inputs: Maps, engine: Engine, priority: Priority, variant: Variant
    ) -> np.ndarray:
        turned = {name: np.ascontiguousarray(variant.apply(x)) for name, x in inputs.items()}
        size = variant.shape(self.plan.compute_shape)
        y = self.forward[size](turned, engine, priority)[self.output]
        return variant.undo(_softmax(y) if self.softmax else y)

    def write(self, y: np.ndarray, block: Block) -> np.ndarray:
        """Store predictions (z,y,x,c); returns what was stored, (c,z,y,x)."""
        stored = np.ascontiguousarray(np.moveaxis(y, -1, 0))
        if self.target.dtype == np.uint8:
            stored = np.rint(np.clip(stored, 0, 1) * np.float32(UINT8_LEVELS)).astype(np.uint8)
        self.target[(slice(None), *block.write)] = stored
        return stored


def run_block(job: Job, index: int, lanes: Lanes) -> BlockReport:
    """Read, compute (in `lanes`, which bound how many do at a time), write, and then mark."""
    block = job.plan.at(index)
    inputs = job.read(block)
    y, seconds = lanes.pool.submit(_timed, job, inputs, block, lanes.engine).result()
    del inputs
    stored = job.write(y, block)
    job.markers.mark(
        index,
        {
            "origin": [s.start for s in block.write],
            "shape": list(triple(stored.shape[1:])),
            "crc32": zlib.crc32(stored.tobytes()),
            "finished": time.time(),
            "forward_seconds": round(seconds, 4),
            "process": f"{socket.gethostname()}:{os.getpid()}",
        },
    )
    return BlockReport(index, int(np.prod(stored.shape[1:])))


def _timed(job: Job, inputs: Maps, block: Block, engine: Engine) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    y = job.compute(inputs, block, engine)
    return y, time.perf_counter() - start


def _within(inner: Box, outer: Box) -> list[slice]:
    return [slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True)]


def _softmax(y: np.ndarray) -> np.ndarray:
    """Softmax over the channels of (z,y,x,c)."""
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e
