"""Volumes on disk and the patches that networks are trained on."""

from znn_dask.data.augmentation import Augmentation
from znn_dask.data.metadata import VolumeError
from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.sampling import Patch, PatchSampler
from znn_dask.data.targets import Target
from znn_dask.data.volume import Volume, create_image, describe_array, open_array, open_volume

__all__ = [
    "Augmentation",
    "Patch",
    "PatchSampler",
    "Preprocessing",
    "Target",
    "Volume",
    "VolumeError",
    "create_image",
    "describe_array",
    "open_array",
    "open_volume",
]
