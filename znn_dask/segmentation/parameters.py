"""What decides the objects."""

from dataclasses import dataclass

from znn_dask.data.metadata import VoxelSize
from znn_dask.segmentation.maps import SegmentationError
from znn_dask.segmentation.watershed import Landscape, sampling_of

DEFAULT_THRESHOLD = {"boundary": 0.5, "affinity": 0.3}
"""Merge threshold by kind of map; best on simulated maps of real tissue with noise."""


@dataclass(frozen=True)
class SegmentationParameters:
    """What decides the objects.

    threshold: contacts with a mean boundary probability below it are merged. The default suits
        boundary maps; for affinities, which are not blurred over two voxels, 0.3 is better
        (`DEFAULT_THRESHOLD`).
    seed_threshold: a voxel with a boundary probability below it is inside a cell.
    smoothing, spacing: see `watershed.Landscape`, in units of the smallest voxel edge.
    minimum_size: objects of fewer voxels join their best neighbour.
    in_plane: segment every slice by itself.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    smoothing: float = 0.5
    spacing: float = 2.0
    minimum_size: int = 50
    in_plane: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "seed_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SegmentationError(
                    f"{name} {value} is no probability; choose one from 0 to 1, such as 0.5"
                )
        for name in ("smoothing", "spacing", "minimum_size"):
            if getattr(self, name) < 0:
                raise SegmentationError(f"{name} {getattr(self, name)} is negative; use 0 or more")

    def landscape(self, voxel_size: VoxelSize | None) -> Landscape:
        sampling = sampling_of(voxel_size, self.in_plane)
        return Landscape(self.seed_threshold, self.smoothing, self.spacing, sampling, self.in_plane)
