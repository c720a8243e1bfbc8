"""OME-NGFF 0.5 multiscales metadata: axes and voxel size of one image (pure functions)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VoxelSize = tuple[float, float, float]

VERSION = "0.5"

# Attribute of a group that an import has not filled yet.
UNFINISHED = "unfinished import"

# UDUNITS-2 names that OME-NGFF allows, in nanometres.
NANOMETRES = {
    "angstrom": 0.1,
    "picometer": 1e-3,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
}

# Those, and what other programs write, in lower case.
UNITS = NANOMETRES | {
    "nm": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,  # the Greek letter, where the line above has the micro sign
    "\\u00b5m": 1e3,  # as ImageJ writes it
    "micron": 1e3,
    "microns": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
    "å": 0.1,
}


class VolumeError(ValueError):
    """A volume that is missing, malformed, or does not fit what is asked of it."""


@dataclass(frozen=True)
class ImageMetadata:
    """What a volume says about one of its images.

    `axes` is "zyx" or "czyx" (one letter per array axis), `voxel_size` is (z, y, x) in nm, `path`
    is the full-resolution array within the image's group.
    """

    axes: str
    voxel_size: VoxelSize
    path: str = "0"


def default_axes(ndim: int) -> str:
    """Axes of an array without metadata: "zyx" or "czyx"; raises VolumeError for other ndim."""
    if ndim not in (3, 4):
        raise VolumeError(f"an image has 3 axes (z,y,x) or 4 (c,z,y,x), not {ndim}: reshape it")
    return "czyx"[-ndim:]


def checked_voxel_size(voxel_size: Sequence[float]) -> VoxelSize:
    """Three positive numbers (z, y, x), nm; raises VolumeError otherwise."""
    values = tuple(float(v) for v in voxel_size)
    if len(values) != 3 or not all(0 < v < float("inf") for v in values):
        raise VolumeError(f"voxel size {values} is not three positive numbers z,y,x in nm")
    return values


def multiscales(name: str, axes: str, voxel_size: VoxelSize) -> dict[str, Any]:
    """Group attributes of an image with one resolution level, the array "0" (OME-NGFF 0.5)."""
    described = [
        {"name": a, "type": "channel"}
        if a == "c"
        else {"name": a, "type": "space", "unit": "nanometer"}
        for a in axes
    ]
    scale = [1.0] * (len(axes) - 3) + list(voxel_size)
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "ome": {
            "version": VERSION,
            "multiscales": [{"name": name, "axes": described, "datasets": [dataset]}],
        }
    }


def origin(attributes: Mapping[str, Any], voxel_size: VoxelSize) -> tuple[int, int, int]:
    """Voxel (z,y,x) of the specimen at which an image begins, 0 where none is recorded."""
    about = attributes.get("ome", attributes)
    entries = about.get("multiscales") if isinstance(about, Mapping) else None
    steps = entries[0]["datasets"][0].get("coordinateTransformations", ()) if entries else ()
    found = {step["type"]: step.get(step["type"]) for step in steps}
    translation = found.get("translation", [0.0] * 3)[-3:]
    scale = (found.get("scale") or voxel_size)[-3:]  # in the same unit
    z, y, x = (round(t / s) for t, s in zip(translation, scale, strict=True))
    return z, y, x


def as_labels(attributes: Mapping[str, Any], image: str | None = None) -> dict[str, Any]:
    """The same attributes, saying that the image holds labels: those of `image`, a relative path,
    where there is one."""
    source = {} if image is None else {"source": {"image": image}}
    return {**attributes, "ome": {**attributes["ome"], "image-label": source}}


def with_levels(
    entry: Mapping[str, Any], factors: Sequence[Sequence[int]], reduction: str
) -> dict[str, Any]:
    """A multiscales entry with the lower levels "1", "2", ... beside its full-resolution one.

    factors: voxels (z,y,x) of the full resolution along one of each level. A level begins where the
    full resolution does: its first voxel has its centre (factor - 1) / 2 voxels further in.
    """
    full = entry["datasets"][0]
    found = {t["type"]: t[t["type"]] for t in full["coordinateTransformations"]}
    scale = found["scale"]
    origin = found.get("translation", [0.0] * len(scale))
    datasets = [full]
    for number, zyx in enumerate(factors, start=1):
        each = [1] * (len(scale) - 3) + list(zyx)
        pairs = list(zip(scale, origin, each, strict=True))
        transformations = [
            {"type": "scale", "scale": [s * f for s, _, f in pairs]},
            {"type": "translation", "translation": [o + s * (f - 1) / 2 for s, o, f in pairs]},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": transformations})
    return {**entry, "datasets": datasets, "type": reduction}


def parse_multiscales(
    attributes: Mapping[str, Any], path: str | None = None
) -> ImageMetadata | None:
    """Metadata of the full-resolution level, or None where the group is not a multiscales image.

    path: of another level, None where there is none of that name. Reads 0.5 (under "ome") and 0.4
    (at the top). An axis without a unit is taken to be in nm.
    """
    holder = attributes.get("ome", attributes)
    entries = holder.get("multiscales") if isinstance(holder, Mapping) else None
    if not entries:
        return None
    entry = entries[0]
    levels = [d for d in entry["datasets"] if path in (None, str(d["path"]))]
    if not levels:
        return None
    dataset = levels[0]
    described = [a if isinstance(a, Mapping) else {"name": a} for a in entry["axes"]]
    scale = [1.0] * len(described)
    for holder in (dataset, entry):
        for transform in holder.get("coordinateTransformations", ()):
            if transform.get("type") == "scale":
                scale = [s * float(t) for s, t in zip(scale, transform["scale"], strict=True)]
    size = {
        a["name"]: s * NANOMETRES.get(a.get("unit", "nanometer"), 1.0)
        for a, s in zip(described, scale, strict=True)
    }
    axes = "".join(a["name"] for a in described)
    voxel_size = (size.get("z", 1.0), size.get("y", 1.0), size.get("x", 1.0))
    return ImageMetadata(axes, voxel_size, str(dataset["path"]))
