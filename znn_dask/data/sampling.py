"""Random training patches: patch i of a seed is a pure function of (seed, i)."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.augmentation import NO_AUGMENTATION, Augmentation, Variant
from znn_dask.data.balance import Balance, Pair, counts, pairs, weight_map
from znn_dask.data.geometry import Box, Geometry, extent, reference_size
from znn_dask.data.metadata import VolumeError
from znn_dask.data.preprocessing import Preprocessing, Rule
from znn_dask.data.source import Source, fits_in_memory, open_source
from znn_dask.data.targets import Kind, Target
from znn_dask.data.volume import Volume, open_volume
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.randomness import generator

Border = Literal["valid", "mirror"]
Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Place:
    """Where a patch comes from: volume number, first voxel (z,y,x) of the output in that volume
    before flips, and what was done to it."""

    volume: int
    start: Triple
    variant: Variant


@dataclass(frozen=True)
class Patch:
    """One training example, maps (z,y,x,c) float32 by node name.

    `weights` (mask times balance) is None where every voxel counts alike. `voxels` is the number
    of target values that count, over all outputs and channels: what an error is averaged over.
    """

    inputs: Maps
    targets: Maps
    weights: dict[str, NDArray[np.float32] | None]
    voxels: float
    place: Place


class PatchSampler:
    """Draws patches from one or several volumes, each candidate centre with the same chance.

    Picklable; decoded voxels stay in the process, not in the pickle. Thread-safe.

    Parameters
    ----------
    volumes
        Volume or path, or several.
    input_sizes, output_sizes
        Voxels (z, y, x) by node name, as `Network.input_sizes` gives them.
    target
        "boundary", "affinity" or a Target, or one per output node. For "boundary", labels without
        a membrane class get membranes of thickness 1 at label changes.
    images, labels
        Item names by node; "image" and "labels" when not given.
    mask
        Item name, used where a volume has it; None to ignore.
    preprocessing
        Rule, fitted to each whole image.
    border
        "valid" keeps all that is read inside, "mirror" reflects the image so that outputs reach the
        border.
    region
        Box to stay within: None, or per axis z, y, x None, slice or (start, stop). A list of boxes
        gives one per volume.
    augment
        True, False or an Augmentation.
    balance
        "none", "global" or "patch".

    Raises
    ------
    VolumeError
        If items are missing, shapes disagree, or no patch fits.
    """

    def __init__(
        self,
        volumes: Volume | str | Path | Sequence[Volume | str | Path],
        input_sizes: Mapping[str, Triple],
        output_sizes: Mapping[str, Triple],
        target: Kind | Target | Mapping[str, Kind | Target] = "boundary",
        *,
        images: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        mask: str | None = "mask",
        preprocessing: Rule | Preprocessing = "standard2D",
        border: Border = "valid",
        region: Any = None,
        augment: bool | Augmentation = True,
        balance: Balance = "none",
        seed: int = 0,
    ) -> None:
        if border not in ("valid", "mirror"):
            raise ValueError(f"unknown border {border!r}: choose valid or mirror")
        if balance not in ("none", "global", "patch"):
            raise ValueError(f"unknown balance {balance!r}: choose none, global or patch")
        several = [volumes] if isinstance(volumes, Volume | str | Path) else list(volumes)
        opened = [v if isinstance(v, Volume) else open_volume(v) for v in several]
        regions = region if isinstance(region, list) else [region] * len(opened)
        if not opened or len(regions) != len(opened):
            raise VolumeError(
                f"{len(regions)} regions for {len(opened)} volumes: give one for each"
            )
        rule = Preprocessing(
            preprocessing.rule if isinstance(preprocessing, Preprocessing) else preprocessing
        )
        image_items = dict.fromkeys(input_sizes, "image") | dict(images or {})
        label_items = dict.fromkeys(output_sizes, "labels") | dict(labels or {})
        for node in (*image_items, *label_items):
            if node not in input_sizes and node not in output_sizes:
                have = ", ".join((*input_sizes, *output_sizes))
                raise ValueError(f"the network has no input or output {node!r}, it has {have}")
        self.seed = seed
        self.balance = balance
        self.augmentation = _augmentation(augment)
        token = uuid.uuid4().hex
        whole = fits_in_memory(opened)
        self.sources = tuple(
            open_source(v, f"{token}/{k}", image_items, label_items, mask, rule, box, whole=whole)
            for k, (v, box) in enumerate(zip(opened, regions, strict=True))
        )
        self.targets = {n: self._target(n, target) for n in output_sizes}
        self.geometry = self._geometry(input_sizes, output_sizes, border)
        self._places = {
            variant: tuple(self._centres(source, variant) for source in self.sources)
            for variant in self.augmentation.variants
        }
        self._check_fit()
        self._global: tuple[dict[str, tuple[Pair, ...]], ...] = ()
        if balance == "global":
            self._global = tuple(
                {n: self._global_pairs(s, n) for n in output_sizes} for s in self.sources
            )

    @property
    def input_channels(self) -> dict[str, int]:
        """Channels of every input map by node."""
        first = self.sources[0].images
        return {n: a.shape[0] if len(a.shape) == 4 else 1 for n, a in first.items()}

    @property
    def target_channels(self) -> dict[str, int]:
        """Channels of every target by node."""
        return {n: t.channels for n, t in self.targets.items()}

    @property
    def preprocessing(self) -> Preprocessing:
        """The rule, fitted to the first input of the first volume."""
        return next(iter(self.sources[0].preprocessing.values()))

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of shapes, types and statistics of the data (not of paths)."""
        facts = [
            {
                "region": [(b.start, b.stop) for b in s.region],
                "arrays": {n: (a.shape, str(a.array.dtype)) for n, a in s.images.items()},
                "labels": {n: (a.shape, str(a.array.dtype)) for n, a in s.labels.items()},
                "mask": s.mask is not None,
                "preprocessing": {n: p.to_dict() for n, p in s.preprocessing.items()},
            }
            for s in self.sources
        ]
        settings = [repr(self.geometry), repr(self.targets), repr(self.augmentation)]
        text = json.dumps([facts, settings, self.balance, self.seed], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def patch(self, index: int) -> Patch:
        """Patch number `index` >= 0: the same one in every process, whatever was drawn before."""
        rng = generator("patch", self.seed, index)
        variant = self.augmentation.draw(rng)
        numbers = self._candidates(variant)
        k = int(rng.integers(sum(numbers)))
        volume = 0
        while k >= numbers[volume]:
            k -= numbers[volume]
            volume += 1
        source = self.sources[volume]
        box = self._places[variant][volume]
        assert box is not None  # the volume has candidates
        at = source.candidates.locate(box, k)
        z, y, x = (a - c for a, c in zip(at, self.geometry.centre(variant), strict=True))
        return self.patch_at(Place(volume, (z, y, x), variant))

    def patch_at(self, place: Place) -> Patch:
        """The patch at a given place."""
        source = self.sources[place.volume]
        z, y, x = (a - r.start for a, r in zip(place.start, source.region, strict=True))
        start, variant = (z, y, x), place.variant
        inputs = {n: self._input(source, n, start, variant) for n in self.geometry.inputs}
        targets: Maps = {}
        weights: dict[str, NDArray[np.float32] | None] = {}
        voxels = 0.0
        for name, target in self.targets.items():
            box = self._label_box(name, start, variant)
            labels = variant(source.read(source.labels[name], box)[0])
            targets[name] = target(labels)
            mask = None
            if source.mask is not None:
                mask = target.mask(variant(source.read(source.mask, box)[0]))
            weights[name] = self._weights(place.volume, name, targets[name], mask)
            voxels += float(targets[name].size if mask is None else mask.sum(dtype=np.float64))
        return Patch(inputs, targets, weights, voxels, place)

    def _input(
        self, source: Source, name: str, start: Triple, variant: Variant
    ) -> NDArray[np.float32]:
        size = variant.source(self.geometry.size)
        box = self.geometry.inputs[name].placed(start, size, variant)
        block, z = source.read(source.images[name], box)
        z = z[::-1] if variant.flips[0] else z
        image = source.preprocessing[name].apply(variant(block), z)
        return (
            image[..., None] if image.ndim == 3 else np.ascontiguousarray(np.moveaxis(image, 0, -1))
        )

    def _label_box(self, name: str, start: Triple, variant: Variant) -> Box:
        read = self.geometry.outputs[name].grown(self.targets[name].context)
        return read.placed(start, variant.source(self.geometry.size), variant)

    def _weights(
        self, volume: int, name: str, target: NDArray[np.float32], mask: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | None:
        if self.balance == "none":
            return mask
        if self.balance == "global":
            chosen = self._global[volume][name]
        else:
            chosen = pairs(self.targets[name], counts(target, mask), "patch")
        weights = weight_map(target, chosen)
        return weights if mask is None else weights * mask

    def _target(self, name: str, given: Kind | Target | Mapping[str, Kind | Target]) -> Target:
        if isinstance(given, Mapping):
            if name not in given:
                raise ValueError(f"no target for output {name!r}: targets are {sorted(given)}")
            given = given[name]
        if isinstance(given, Target):
            return given
        if given == "boundary":
            dense = not all(s.has_membrane_class(name) for s in self.sources)
            return Target("boundary", 1 if dense else 0)
        return Target(given)

    def _geometry(
        self, inputs: Mapping[str, Triple], outputs: Mapping[str, Triple], border: Border
    ) -> Geometry:
        size = reference_size(outputs)
        below = max((1 for t in self.targets.values() if t.kind == "affinity"), default=0)
        return Geometry(
            size,
            {n: extent(s, size) for n, s in inputs.items()},
            {n: extent(s, size) for n, s in outputs.items()},
            (below, 0),
            border == "mirror",
        )

    def _centres(self, source: Source, variant: Variant) -> Box | None:
        starts = self.geometry.starts(source.shape, variant)
        if starts is None:
            return None
        centre = self.geometry.centre(variant)
        z, y, x = (
            slice(s.start + c + r.start, s.stop + c + r.start)
            for s, c, r in zip(starts, centre, source.region, strict=True)
        )
        return (z, y, x)

    def _candidates(self, variant: Variant) -> list[int]:
        """How many centres each volume has."""
        return [
            0 if box is None else source.candidates.count(box)
            for source, box in zip(self.sources, self._places[variant], strict=True)
        ]

    def _check_fit(self) -> None:
        for variant in self.augmentation.variants:
            if any(self._candidates(variant)):
                continue
            shapes = ", ".join(f"{s.path} {s.shape}" for s in self.sources)
            if any(self._places[variant]):
                raise VolumeError(f"the mask leaves no centre for a patch in {shapes}: widen it")
            advice = (
                "take a smaller output size or region"
                if self.geometry.mirror
                else ("take a smaller output size, or border='mirror'")
            )
            if variant.transpose:
                advice = "switch off the transpose (Augmentation(transpose=False))"
            needed = self.geometry.needed(variant)
            raise VolumeError(f"a patch needs {needed} voxels, there are {shapes}: {advice}")

    def _global_pairs(self, source: Source, name: str) -> tuple[Pair, ...]:
        target = self.targets[name]
        total = np.zeros((target.channels, 2))
        below, above = target.context
        for labels, (z, y, x) in source.label_cells(name, target):
            mask = None
            if source.mask is not None:
                around = [slice(s.start - below, s.stop + above) for s in (z, y, x)]
                mask = target.mask(source.read(source.mask, (around[0], around[1], around[2]))[0])
            total += counts(target(labels), mask)
        return pairs(target, total, "global")


def _augmentation(augment: bool | Augmentation) -> Augmentation:
    if isinstance(augment, Augmentation):
        return augment
    return Augmentation() if augment else NO_AUGMENTATION
