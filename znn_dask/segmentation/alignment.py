"""Where a map or objects lie within the labels they are compared with."""

from znn_dask.segmentation.maps import OpenedMap, Region, SegmentationError, resolve_region


def aligned(
    found: OpenedMap, labels: OpenedMap, region: Region | str | None
) -> tuple[Region, Region]:
    """The regions (z, y, x) to read from objects or a map, and from labels.

    What records its position is placed by it, and without a region all that both cover is taken.
    Otherwise arrays of the labels' shape are cut alike and those of the region's shape taken
    whole. Raises SegmentationError where neither fits.
    """
    box = resolve_region(region, labels.shape)
    size = tuple(s.stop - s.start for s in box)
    shape = found.shape[-3:]
    place = _place(found, labels)
    if place is None and shape == size:
        place = tuple(s.start for s in box)
    if place is None:
        part = f", of which the region takes {size}" if region is not None else ""
        raise SegmentationError(
            f"{found.source} covers {shape} voxels and the labels {labels.shape}{part}; "
            "give the region of the labels that it covers"
        )
    common = [
        slice(max(s.start, p), min(s.stop, p + n))
        for s, p, n in zip(box, place, shape, strict=True)
    ]
    if (region is not None and common != list(box)) or any(c.start >= c.stop for c in common):
        covered = ",".join(f"{p}:{p + n}" for p, n in zip(place, shape, strict=True))
        asked = ",".join(f"{s.start}:{s.stop}" for s in box)
        raise SegmentationError(
            f"{found.source} covers {covered} of the labels, not {asked}; "
            "choose a region inside both"
        )
    z, y, x = common
    fz, fy, fx = (slice(c.start - p, c.stop - p) for c, p in zip(common, place, strict=True))
    return (fz, fy, fx), (z, y, x)


def _place(found: OpenedMap, labels: OpenedMap) -> tuple[int, ...] | None:
    """Voxel of the labels at which `found` begins, where shapes or positions tell."""
    if found.shape[-3:] == labels.shape and labels.offset in (None, found.offset):
        return (0, 0, 0)  # a crop of labels in memory has lost its position
    if found.offset is None:
        return (0, 0, 0) if found.shape[-3:] == labels.shape else None
    origin = labels.offset or (0, 0, 0)
    return tuple(mine - theirs for mine, theirs in zip(found.offset, origin, strict=True))
