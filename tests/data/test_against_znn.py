"""Patches that the original stored while it trained, found again in its stacks."""

import itertools

import numpy as np
import pytest

from znn_dask.data.augmentation import Variant
from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.sampling import PatchSampler, Place
from znn_dask.data.volume import create_image, open_volume

h5py = pytest.importorskip("h5py")

INPUT, OUTPUT = (6, 22, 22), (3, 14, 14)
VARIANTS = [Variant(f[:3], f[3]) for f in itertools.product((False, True), repeat=4)]


@pytest.fixture(scope="module")
def stacks(shared, tmp_path_factory):
    folder = shared / "znn" / "golden_training"
    paths = []
    for k in (1, 2):
        path = tmp_path_factory.mktemp("znn") / f"stack{k}.zarr"
        for item in ("image", "label", "mask"):
            if item == "mask" and k == 1:  # its configuration gives only the second one a mask
                continue
            with h5py.File(folder / f"stack{k}-{item}.h5") as file:
                data = file["main"][...]
            if item == "label":
                data = data.astype(np.uint32)
            name = {"label": "labels"}.get(item, item)
            create_image(path, name, data.shape, data.dtype)[...] = data
        paths.append(path)
    return paths


def find(images, wanted):
    """(volume, start of the padded input, variant) where the stored patch comes from."""
    for volume, padded in enumerate(images):
        for variant in VARIANTS:
            # undo the transpose, then the flips
            block = wanted.swapaxes(1, 2) if variant.transpose else wanted
            block = block[tuple(slice(None, None, -1 if f else 1) for f in variant.flips)]
            limits = [n - m + 1 for n, m in zip(padded.shape, block.shape, strict=True)]
            corner = padded[tuple(slice(0, n) for n in limits)]
            for start in np.argwhere(np.abs(corner - block[0, 0, 0]) < 1e-5):
                box = tuple(slice(s, s + n) for s, n in zip(start, block.shape, strict=True))
                if np.abs(padded[box] - block).max() < 1e-5:
                    return volume, tuple(int(s) for s in start), variant
    raise AssertionError("the stored patch is in neither stack")


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_stored_patches(shared, stacks, step):
    fov = tuple(i - o + 1 for i, o in zip(INPUT, OUTPUT, strict=True))
    pads = [((f - 1) // 2, f // 2) for f in fov]
    images = []
    for path in stacks:
        array = open_volume(path).image
        normal = Preprocessing("standard2D").fit(array).apply(array[...], slice(0, array.shape[0]))
        images.append(np.pad(normal, pads, mode="symmetric"))
    with h5py.File(shared / "znn/golden_training/affinity" / f"net_{step}.h5") as file:
        stored = file["processing/znn/train/patch"]
        wanted = stored["inputs/input"][0]
        labels = stored["lbls/output"][...]
        weights = stored["weights"][...]
        gradient, output = stored["grdts/output"][...], stored["props/output"][...]
    volume, start, variant = find(images, wanted)
    sampler = PatchSampler(
        stacks, {"input": INPUT}, {"output": OUTPUT}, "affinity", border="mirror", balance="patch"
    )
    # The original flips its patch as a whole. So, with the even field of view along z, its input
    # lies one slice higher than ours when z is flipped; the output voxels are the same ones.
    patch = sampler.patch_at(Place(volume, start, variant))
    np.testing.assert_array_equal(np.moveaxis(patch.targets["output"], -1, 0), labels)
    higher = (start[0] + variant.flips[0], *start[1:])
    seen = sampler.patch_at(Place(volume, higher, variant)).inputs["input"]
    np.testing.assert_allclose(seen[..., 0], wanted, atol=1e-5)
    got = np.moveaxis(patch.weights["output"], -1, 0)
    mask = got > 0
    np.testing.assert_allclose(got[mask], weights[mask], rtol=1e-5)
    np.testing.assert_allclose(gradient, (output - labels) * got, atol=1e-6)
