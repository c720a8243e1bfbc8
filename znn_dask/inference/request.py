"""What a prediction will do, decided before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

from znn_dask.inference import settings, store
from znn_dask.inference.augment import Variant, margin
from znn_dask.inference.blocks import BlockPlan, Border, Triple, output_extent, triple
from znn_dask.inference.sizing import DEFAULT_BYTES, Candidate, Cost, candidates, choose, chunks_of
from znn_dask.network import Network, NodeGroup, parse_znn
from znn_dask.taskgraph import Arithmetic
from znn_dask.training.checkpoint import CheckpointState, load_checkpoint


@dataclass(frozen=True, eq=False)
class Request:
    """What the user asks for, checked, and what follows from it.

    state, network, node: the checkpoint, its network, and the output node to write
    images, fields: array and field of view of each input node
    dtype: of what is stored
    variants: flips and transposes to average over, the identity first
    affinity, softmax: whether the channels are affinities; whether they go through a softmax
    stored: the record of a run that this one continues
    memory: bytes that blocks in flight may take in each process, if the user says
    chunks: chunk shape, if the user says
    """

    state: CheckpointState
    network: Network
    node: NodeGroup
    images: Mapping[str, Any]
    fields: Mapping[str, Triple]
    dtype: settings.OutputType
    variants: tuple[Variant, ...]
    affinity: bool
    softmax: bool
    stored: Mapping[str, Any] | None
    memory: int | None
    chunks: Triple | None
    origin: Triple
    shape: Triple
    border: Border

    @cached_property
    def cost(self) -> Cost:
        """Work and memory of its blocks, whatever their size."""
        computed = "float64" if self.dtype == "float64" else "float32"
        return Cost(self.network, len(self.variants), computed)

    @property
    def margin(self) -> Triple:
        """Voxels below each block that are computed with it."""
        return margin(self.variants, self.affinity)

    def candidates(self) -> list[Candidate]:
        """Blocks that come into question, the largest first."""
        limit = self.memory or DEFAULT_BYTES
        return candidates(self.shape, self.cost, limit, self.chunks, self.margin)

    def plan(self, block: Triple | None) -> BlockPlan:
        """Which block is where; `block` is its shape if the user says."""
        kept = BlockPlan.from_json(self.stored["plan"]) if self.stored is not None else None
        asked = settings.resolve_shape("block", block, self.shape)
        # What is half written goes on with the shapes it has, whatever chose them.
        same = kept is not None and kept.output_shape == self.shape and self.chunks is None
        if same and kept is not None and asked in (None, kept.block):
            unit, cut = kept.unit, kept.block
        elif asked is not None:
            unit, cut = self.chunks or chunks_of(asked, self.shape), asked
        else:
            limit = self.memory or DEFAULT_BYTES
            unit, cut = choose(self.shape, self.cost, limit, self.chunks, self.margin)
        image = triple(next(iter(self.images.values())).shape[-3:])
        return BlockPlan(
            image, dict(self.fields), self.border, self.origin, self.shape, unit, cut, self.margin
        )

    def arithmetic(self, plan: BlockPlan) -> dict[Triple, Arithmetic]:
        """How to compute each output size: as the stored blocks were, or else by the cost table."""
        kept = (
            [Arithmetic.from_dict(how) for how in self.stored["arithmetic"]] if self.stored else []
        )
        known = {how.output_size: how for how in kept}
        sizes = dict.fromkeys(variant.shape(plan.compute_shape) for variant in self.variants)
        return {size: known.get(size) or self.cost.chosen(size).layers.arithmetic for size in sizes}


class Options(TypedDict, total=False):
    """What `predict` takes besides checkpoint, image and place; it describes them."""

    chunks: Triple | None
    border: Border
    augment: bool | int
    dtype: settings.OutputType
    output: str | None
    region: Any
    memory_limit: int | str | None
    overwrite: bool


def prepare(
    checkpoint: str | Path | CheckpointState, image: Any, place: str, **options: Unpack[Options]
) -> Request:
    """Check the arguments of `predict`, with its defaults; nothing is written.

    Raises PredictionError, one line.
    """
    dtype, border = options.get("dtype", "float32"), options.get("border", "valid")
    state = checkpoint if isinstance(checkpoint, CheckpointState) else load_checkpoint(checkpoint)
    memory = settings.resolve_bytes(options.get("memory_limit"))
    network = settings.dense(parse_znn(state.network))
    node = settings.resolve_output(network, options.get("output"))
    softmax, affinity = "softmax" in state.loss, state.target == "affinity"
    settings.check_dtype(dtype, softmax, node)
    images = settings.resolve_images(image, network)
    fields = settings.resolve_fields(network)
    augment = options.get("augment", False)
    variants = settings.resolve_variants(augment, fields, node, affinity)
    stored = store.read_record(place)
    shape = triple(next(iter(images.values())).shape[-3:])
    fov = triple(max(axis) for axis in zip(*fields.values(), strict=True))
    box = settings.resolve_region(options.get("region"), shape)
    origin, shape = output_extent(shape, fov, border, box)
    return Request(
        state=state,
        network=network,
        node=node,
        images=images,
        fields=fields,
        dtype=dtype,
        variants=variants,
        affinity=affinity,
        softmax=softmax,
        stored=None if options.get("overwrite") else stored,
        memory=memory,
        chunks=settings.resolve_shape("chunks", options.get("chunks"), shape),
        origin=origin,
        shape=shape,
        border=border,
    )
