import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from znn_dask.data import cache
from znn_dask.data.augmentation import NO_AUGMENTATION, Augmentation, Variant
from znn_dask.data.metadata import VolumeError
from znn_dask.data.sampling import PatchSampler, Place
from znn_dask.data.targets import Target

ALL = [Variant((z, y, x), t) for z in (0, 1) for y in (0, 1) for x in (0, 1) for t in (0, 1)]


def sampler(path, inputs=(5, 7, 9), outputs=(2, 3, 4), target="affinity", **more):
    more.setdefault("preprocessing", "none")
    return PatchSampler(path, {"input": inputs}, {"output": outputs}, target, **more)


def test_patch_is_a_pure_function_of_seed_and_index(make_volume, coordinates):
    data = coordinates((12, 14, 16))
    path = make_volume(image=data, labels=data)
    a, b = sampler(path), sampler(path)
    forward = [a.patch(i) for i in range(6)]
    for i in reversed(range(6)):
        again = b.patch(i)
        np.testing.assert_array_equal(again.inputs["input"], forward[i].inputs["input"])
        assert again.place == forward[i].place
    assert len({p.place for p in forward}) > 1
    assert sampler(path, seed=1).patch(0).place != forward[0].place
    assert a.fingerprint == b.fingerprint != sampler(path, seed=1).fingerprint


def test_same_patch_in_another_process(make_volume, coordinates):
    data = coordinates((12, 14, 16))
    mine = sampler(make_volume(image=data, labels=data))
    code = (
        "import pickle, sys\n"
        "s = pickle.load(sys.stdin.buffer)\n"
        "pickle.dump(s.patch(5), sys.stdout.buffer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(mine),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    theirs = pickle.loads(done.stdout)
    ours = mine.patch(5)
    np.testing.assert_array_equal(theirs.inputs["input"], ours.inputs["input"])
    np.testing.assert_array_equal(theirs.targets["output"], ours.targets["output"])
    assert len(pickle.dumps(mine)) < 20_000


@pytest.mark.parametrize("border", ["valid", "mirror"])
@pytest.mark.parametrize("fov", [(4, 5, 6), (3, 4, 5), (1, 2, 3)])
def test_every_variant_stays_aligned(make_volume, coordinates, border, fov):
    """The voxel under the field of view's centre is the labelled one, flipped or not."""
    shape = (9, 10, 11)
    data = coordinates(shape)
    outputs = (2, 3, 2)
    inputs = tuple(o + f - 1 for o, f in zip(outputs, fov, strict=True))
    s = sampler(make_volume(image=data, labels=data), inputs, outputs, "boundary", border=border)
    assert s.targets["output"] == Target("boundary", 1)
    padded = np.pad(data, 8, mode="symmetric").astype(np.float32)
    for i in range(60):
        patch = s.patch(i)
        place = patch.place
        size = place.variant.source(outputs)
        box = tuple(slice(a, a + n) for a, n in zip(place.start, size, strict=True))
        assert all(b.start >= 0 and b.stop <= n for b, n in zip(box, shape, strict=True))
        labels = place.variant(data[box])
        got = patch.inputs["input"]
        assert got.shape == (*inputs, 1)
        low = [(f - 1) // 2 for f in fov]
        inner = tuple(slice(b, b + o) for b, o in zip(low, outputs, strict=True))
        np.testing.assert_array_equal(got[(*inner, 0)], labels)
        # the whole input, by padding and flipping the whole volume
        source = place.variant.source(tuple(low))
        other = place.variant.source(tuple(f // 2 for f in fov))
        start = [
            a - (h if flip else b)
            for a, b, h, flip in zip(place.start, source, other, place.variant.flips, strict=True)
        ]
        frame = place.variant.source(inputs)
        whole = tuple(slice(8 + a, 8 + a + n) for a, n in zip(start, frame, strict=True))
        np.testing.assert_array_equal(got[..., 0], place.variant(padded[whole]))


def test_mirrored_border_is_numpy_symmetric_even_far_out(make_volume, coordinates):
    data = coordinates((4, 5, 6))
    s = sampler(
        make_volume(image=data, labels=data),
        (21, 23, 25),
        (4, 5, 6),
        "boundary",
        border="mirror",
        augment=False,
    )
    expected = np.pad(data, ((8, 9), (9, 9), (9, 10)), mode="symmetric")
    np.testing.assert_array_equal(s.patch(0).inputs["input"][..., 0], expected)


@pytest.mark.parametrize("border", ["valid", "mirror"])
@pytest.mark.parametrize("target", ["boundary", "affinity"])
def test_region_is_kept_and_used_up(make_volume, coordinates, border, target):
    """Nothing outside of the region is read; with mirrored borders each of its labels is used."""
    data = coordinates((4, 16, 16))
    region = (None, slice(4, 10), (5, 12))
    path = make_volume(image=data, labels=data)
    s = sampler(path, (3, 5, 5), (1, 2, 3), target, region=region, border=border)
    inside = set(data[:, 4:10, 5:12].ravel().tolist())
    seen, centres = set(), set()
    for i in range(700):
        patch = s.patch(i)
        seen |= set(patch.inputs["input"].ravel().astype(int).tolist())
        centres |= set(patch.inputs["input"][1, 1:-2, 1:-1].ravel().astype(int).tolist())
    assert seen == inside
    if border == "mirror" and target == "boundary":
        assert centres == inside


def test_non_square_patches_are_transposed_properly(make_volume, coordinates):
    data = coordinates((6, 20, 20))
    s = sampler(make_volume(image=data, labels=data // 7), (3, 6, 16), (1, 4, 14))
    swapped = 0
    for i in range(40):
        patch = s.patch(i)
        assert patch.inputs["input"].shape == (3, 6, 16, 1)
        assert patch.targets["output"].shape == (1, 4, 14, 3)
        variant = patch.place.variant
        step = np.diff(patch.inputs["input"][0, 0, :2, 0])[0]
        assert abs(step) == (20 if variant.transpose else 1)
        assert (step < 0) == variant.flips[1 if variant.transpose else 2]
        swapped += variant.transpose
    assert 8 < swapped < 32


@pytest.mark.parametrize("variant", ALL)
def test_affinity_of_augmented_labels_by_loops(make_volume, variant):
    labels = np.random.default_rng(0).integers(0, 3, (7, 8, 9)).astype(np.uint32)
    s = sampler(make_volume(image=labels, labels=labels), (2, 3, 4), (2, 3, 4))
    out = s.patch_at(Place(0, (2, 2, 2), variant)).targets["output"]
    swapped = variant.source((2, 3, 4))
    flip = variant.flips
    for at in np.ndindex(2, 3, 4):
        inner = variant.source(at)
        here = [2 + (n - 1 - i if f else i) for i, n, f in zip(inner, swapped, flip, strict=True)]
        for c, axis in enumerate((2, 1, 0)):
            volume_axis = {1: 2, 2: 1}.get(axis, axis) if variant.transpose else axis
            lower = list(here)
            lower[volume_axis] += 1 if flip[volume_axis] else -1
            same = labels[tuple(here)] == labels[tuple(lower)]
            assert out[(*at, c)] == float(same and labels[tuple(here)] > 0)


def test_masks_choose_centres_and_weights(make_volume, coordinates):
    data = coordinates((10, 20, 20))
    mask = np.zeros(data.shape, np.uint8)
    mask[3:6, 5:15, 9:12] = 1
    mask[5, 10, 10] = 0
    path = make_volume(image=data, labels=data, mask=mask)
    for target in ("boundary", "affinity"):
        s = sampler(path, (3, 5, 5), (1, 3, 3), target, augment=False)
        centres = set()
        for i in range(400):
            patch = s.patch(i)
            z, y, x = patch.place.start
            # the centre of the labels that are read, of which affinities need one more below
            at = (z, y + 1, x + 1) if target == "boundary" else (z - 1, y, x)
            assert mask[at]
            centres.add(at)
            got = patch.weights["output"]
            box = mask[z : z + 1, y : y + 3, x : x + 3]
            if target == "boundary":
                np.testing.assert_array_equal(got[..., 0], box)
                np.testing.assert_array_equal(got[..., 1], box)
            else:
                low_x = mask[z : z + 1, y : y + 3, x - 1 : x + 2]
                np.testing.assert_array_equal(got[..., 0], box | low_x)
            assert patch.voxels == got.sum()
        assert len(centres) > 0.95 * mask.sum()
    assert sampler(path, mask=None).patch(0).weights["output"] is None


def test_volumes_are_drawn_by_their_candidates(make_volume, coordinates):
    small, large = coordinates((6, 8, 8)), coordinates((6, 26, 8))
    paths = [
        make_volume("a", image=small, labels=small),
        make_volume("b", image=large, labels=large),
    ]
    s = sampler(paths, (1, 8, 8), (1, 8, 8), "boundary", augment=False)
    drawn = [s.patch(i).place.volume for i in range(400)]
    assert abs(np.mean(drawn) - 19 / 20) < 0.04  # 6 against 6 x 19 candidates


def test_global_balance_counts_the_masked_region(make_volume):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, (10, 20, 20)).astype(np.uint16)
    mask = rng.integers(0, 2, labels.shape).astype(np.uint8)
    path = make_volume(image=labels, labels=labels, mask=mask)
    region = (slice(1, 9), None, slice(2, 17))
    inner = np.s_[1:9, :, 2:17]
    s = sampler(path, (1, 5, 5), (1, 5, 5), "boundary", balance="global", region=region)
    counted = labels[inner][mask[inner] > 0] > 0
    patch = s.patch(0)
    used = patch.weights["output"] > 0
    expected = np.where(
        patch.targets["output"][..., :1] > 0, 0.5 / counted.mean(), 0.5 / (1 - counted.mean())
    )
    np.testing.assert_allclose(
        patch.weights["output"][used], np.broadcast_to(expected, used.shape)[used], rtol=1e-6
    )
    s = sampler(path, (1, 5, 5), (1, 5, 5), "affinity", balance="global", region=region)
    target = Target("affinity")
    y, m = target(labels[inner]), target.mask(mask[inner])
    shares = [y[..., c][m[..., c] > 0].mean() for c in range(3)]
    patch = s.patch(0)
    for c, share in enumerate(shares):
        got = patch.weights["output"][..., c]
        expected = np.where(patch.targets["output"][..., c] > 0, 1 - share, share)
        np.testing.assert_allclose(got[got > 0], expected[got > 0], rtol=1e-6)


def test_several_inputs_and_outputs_by_node(make_volume, coordinates):
    data = coordinates((10, 20, 20))
    guide = np.stack([data.astype(np.float32), -data.astype(np.float32)])
    path = make_volume(image=data, guide=guide, labels=data, cells=(data % 3).astype(np.uint8))
    s = PatchSampler(
        path,
        {"input": (5, 7, 7), "second": (3, 9, 9)},
        {"output": (1, 3, 3), "wide": (1, 3, 3)},
        {"output": "affinity", "wide": "boundary"},
        images={"second": "guide"},
        labels={"wide": "cells"},
        preprocessing="none",
    )
    patch = s.patch(4)
    assert s.input_channels == {"input": 1, "second": 2}
    assert s.target_channels == {"output": 3, "wide": 2}
    second = patch.inputs["second"]
    np.testing.assert_array_equal(second[..., 0], -second[..., 1])
    np.testing.assert_array_equal(second[1:2, 3:6, 3:6, :1], patch.inputs["input"][2:3, 2:5, 2:5])
    assert s.targets["wide"] == Target("boundary", 0)
    np.testing.assert_array_equal(
        patch.targets["wide"][..., 0], patch.inputs["input"][2:3, 2:5, 2:5, 0] % 3 > 0
    )


def test_preprocessing_follows_mirrored_and_flipped_slices(make_volume):
    rng = np.random.default_rng(4)
    image = (rng.random((6, 9, 9)) * 50 * np.arange(1, 7)[:, None, None]).astype(np.uint16)
    path = make_volume(image=image, labels=np.ones(image.shape, np.uint8))
    s = sampler(path, (5, 3, 3), (1, 3, 3), "boundary", preprocessing="standard2D", border="mirror")
    normal = (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)
    padded = np.pad(normal, ((2, 2), (0, 0), (0, 0)), mode="symmetric")
    for i in range(30):
        patch = s.patch(i)
        z, y, x = patch.place.start
        expected = patch.place.variant(padded[z : z + 5, y : y + 3, x : x + 3])
        np.testing.assert_allclose(patch.inputs["input"][..., 0], expected, atol=1e-5)


def test_chunked_and_whole_reads_agree(make_volume, coordinates, monkeypatch):
    data = coordinates((20, 21, 22))
    path = make_volume(image=data, labels=data)
    whole = sampler(path)
    monkeypatch.setattr("znn_dask.data.source.WHOLE_BYTES", 0)
    small = cache.ByteLRU(20 * 8**3 * 4)
    monkeypatch.setattr(cache, "_DECODED", small)
    chunked = sampler(path)
    assert not chunked.sources[0].images["input"].whole
    for i in range(20):
        np.testing.assert_array_equal(
            chunked.patch(i).inputs["input"], whole.patch(i).inputs["input"]
        )
    assert 0 < small.nbytes <= small.capacity


def test_cache_loads_once_with_many_threads():
    lru, loads = cache.ByteLRU(1000), []

    def load():
        loads.append(1)
        return np.zeros(10, np.uint8)

    threads = [threading.Thread(target=lru.get, args=("a", load)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(loads) == 1
    assert lru.nbytes == 10

    def fail():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        lru.get("b", fail)
    assert lru.get("b", load).size == 10


def test_errors_name_both_values(make_volume, coordinates):
    data = coordinates((8, 12, 20))
    path = make_volume(image=data, labels=data)
    with pytest.raises(VolumeError, match=r"needs \(9, 7, 9\).*\(8, 12, 20\).*smaller output"):
        sampler(path, (9, 7, 9), augment=False)
    with pytest.raises(VolumeError, match="switch off the transpose"):
        sampler(path, (1, 5, 18), (1, 5, 18))
    square = Augmentation(transpose=False)
    assert sampler(path, (1, 5, 18), (1, 5, 18), augment=square).patch(0).voxels == 270
    with pytest.raises(VolumeError, match=r"region 0..30 along y is not within the volume's 0..12"):
        sampler(path, region=(None, (0, 30), None))
    with pytest.raises(VolumeError, match="no item 'labels', it has image"):
        sampler(make_volume("w", image=data))
    with pytest.raises(VolumeError, match="but labels is"):
        sampler(make_volume("u", image=data, labels=data[1:]))
    with pytest.raises(VolumeError, match="mask leaves no centre"):
        sampler(make_volume("m", image=data, labels=data, mask=np.zeros(data.shape, np.uint8)))
    with pytest.raises(ValueError, match="no input or output 'in', it has input, output"):
        sampler(path, images={"in": "image"})
    assert NO_AUGMENTATION.draw(np.random.default_rng(0)) == Variant()
