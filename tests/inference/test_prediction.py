"""Whole predictions in this process, against one dense pass."""

from dataclasses import replace

import numpy as np
import prediction_reference as reference
import pytest
import zarr
from prediction_cases import (
    affinity_network,
    affinity_state,
    boundary_network,
    boundary_state,
    dense,
    make_image,
    make_state,
    standardised,
    without_preprocessing,
)
from prediction_reference import prediction

from znn_dask.data.volume import create_image, open_array
from znn_dask.inference import PredictionError, predict, prediction_status
from znn_dask.inference.augment import Variant, variants
from znn_dask.inference.need import Room
from znn_dask.inference.sizing import Cost
from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.training.checkpoint import save_checkpoint

SHAPE = (7, 30, 41)
BLOCK = (2, 8, 16)


@pytest.fixture
def image(tmp_path):
    data = make_image(SHAPE)
    array = create_image(tmp_path / "in.zarr", "image", SHAPE, "uint8", (4, 16, 16), (40, 8, 8))
    array[:] = data
    return tmp_path / "in.zarr/image"


def test_equals_one_dense_pass_from_a_checkpoint_on_disk(tmp_path, image, capsys, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)  # as in a terminal
    state = boundary_state()
    checkpoint = save_checkpoint(tmp_path / "checkpoints", state)
    out = predict(checkpoint, image, tmp_path / "out.zarr", block=BLOCK)
    assert out == str(tmp_path / "out.zarr")
    result = zarr.open_group(out, mode="r")["0"]
    expected = dense(boundary_network(), state, standardised(make_image(SHAPE)))
    assert result.shape == (2, 5, 22, 33) == expected.shape
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:], expected, atol=2e-6)
    np.testing.assert_allclose(result[:].sum(axis=0), 1, atol=1e-6)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "voxels/s" in shown.err
    status = prediction_status(out)
    assert status.finished
    assert status.done == status.plan.count == 3 * 3 * 3


def test_metadata_lays_the_output_over_the_image(tmp_path, image):
    out = predict(boundary_state(), image, tmp_path / "out.zarr", progress=False)
    group = zarr.open_group(out, mode="r")
    (entry,) = group.attrs["ome"]["multiscales"]
    assert [a["name"] for a in entry["axes"]] == ["c", "z", "y", "x"]
    scale, translation = entry["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1, 40, 8, 8]}
    assert translation == {"type": "translation", "translation": [0, 40, 32, 32]}
    assert open_array(out).shape == (2, 5, 22, 33)


def test_mirrored_border_is_symmetric_padding(tmp_path, image):
    state = boundary_state()
    out = predict(state, image, tmp_path / "out.zarr", border="mirror", block=BLOCK, progress=False)
    padded = np.pad(standardised(make_image(SHAPE)), [(1, 1), (4, 4), (4, 4)], mode="symmetric")
    result = open_array(out)
    assert result.shape == (2, *SHAPE)
    np.testing.assert_allclose(result[:], dense(boundary_network(), state, padded), atol=2e-6)
    translation = zarr.open_group(out).attrs["ome"]["multiscales"][0]["datasets"][0]
    assert translation["coordinateTransformations"][1]["translation"] == [0, 0, 0, 0]


@pytest.mark.parametrize("border", ["valid", "mirror"])
def test_region_is_a_part_of_the_whole(tmp_path, image, border):
    state = boundary_state()
    whole = open_array(predict(state, image, tmp_path / "a", border=border, progress=False))
    region = ((2, 5), (6, 20), slice(5, 30))
    part = predict(state, image, tmp_path / "b", border=border, region=region, progress=False)
    lower = (1, 4, 4) if border == "valid" else (0, 0, 0)
    inside = tuple(
        slice(a - low, b - low)
        for (a, b), low in zip([(2, 5), (6, 20), (5, 30)], lower, strict=True)
    )
    np.testing.assert_allclose(open_array(part)[:], whole[(slice(None), *inside)], atol=2e-6)
    attributes = zarr.open_group(part).attrs["ome"]["multiscales"][0]["datasets"][0]
    translation = attributes["coordinateTransformations"][1]["translation"]
    assert translation == [0, 2 * 40, 6 * 8, 5 * 8]


@pytest.mark.parametrize("augment", [False, 8])
def test_float64_is_computed_in_double_precision(tmp_path, image, augment):
    state = without_preprocessing(boundary_state())
    options = {"block": BLOCK, "augment": augment, "progress": False}
    result = open_array(predict(state, image, tmp_path / "o", dtype="float64", **options))
    assert result.dtype == np.float64
    single = open_array(predict(state, image, tmp_path / "single", **options))[:]
    assert 0 < np.linalg.norm(single - result[:]) < 1e-5 * np.linalg.norm(result[:])
    if not augment:
        expected = dense(boundary_network(), state, make_image(SHAPE))
        np.testing.assert_allclose(result[:], expected, atol=1e-13)


def test_uint8_is_scaled(tmp_path, image):
    state = boundary_state()
    exact = open_array(predict(state, image, tmp_path / "a", progress=False))[:]
    out = predict(state, image, tmp_path / "b", dtype="uint8", progress=False)
    stored = open_array(out)
    scale = zarr.open_group(out).attrs["znn_dask"]["scale"]
    assert stored.dtype == np.uint8
    assert np.abs(stored[:] * scale - exact).max() <= scale / 2 + 1e-6


def turned(state, network, image, variant):
    """Result (z,y,x,c) of one variant, in the coordinates of the turned image."""
    inputs = {"input": variant.apply(image[..., None].astype(float))}
    return reference.forward(network, state.parameters, inputs)["output"]


def test_flips_and_transposes_of_boundaries(tmp_path):
    state, network = without_preprocessing(boundary_state()), boundary_network()
    image = (make_image((5, 20, 23)) / 255).astype(np.float32)
    out = predict(state, image, tmp_path / "o", augment=16, block=(2, 4, 8), progress=False)
    total = 0
    for variant in variants((True, True, True), transpose=True):
        y = turned(state, network, image, variant)
        e = np.exp(y)
        total = total + variant.undo(e / e.sum(axis=-1, keepdims=True))
    expected = np.moveaxis(total / 16, -1, 0)
    np.testing.assert_allclose(open_array(out)[:], expected, atol=2e-6)


@pytest.mark.parametrize("augment", [8, 16])
def test_flipped_affinities_are_put_on_the_pair_of_voxels_they_belong_to(tmp_path, augment):
    """By hand: collect each prediction by the pair of voxels of the image that it speaks of."""
    state, network = without_preprocessing(affinity_state()), affinity_network()
    image = (make_image((6, 15, 17)) / 255).astype(np.float32)
    out = predict(state, image, tmp_path / "o", augment=augment, block=(2, 4, 8), progress=False)
    result = open_array(out)[:]
    half = (1, 2, 2)
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    total, number = np.zeros(result.shape), np.zeros(result.shape)
    for variant in variants((True, True, True), augment == 16):
        y = turned(state, network, image, variant)
        where = variant.apply(index)  # turned position -> position in the image
        for channel, step in enumerate([(0, 0, 1), (0, 1, 0), (1, 0, 0)]):
            for position in np.ndindex(y.shape[:3]):
                at = np.add(position, half)
                one, other = where[tuple(at)], where[tuple(at - step)]
                upper = np.maximum(one, other)  # the image stores the pair at its upper voxel
                (axis,) = np.flatnonzero(one != other)
                to = (2 - axis, *(upper - half))
                if all(0 <= t < n for t, n in zip(to, result.shape, strict=True)):
                    total[to] += y[(*position, channel)]
                    number[to] += 1
    assert number.max() == augment
    np.testing.assert_allclose(result, total / number, atol=2e-6)


def test_variant_undo():
    x = np.arange(24).reshape(2, 3, 4, 1)
    for variant in variants((True, True, True), transpose=True):
        np.testing.assert_array_equal(variant.undo(variant.apply(x)), x)
        assert variant.apply(x).shape[:3] == variant.shape((2, 3, 4))
    assert variants((False, True, True), transpose=False)[0] == Variant()
    assert len(variants((False, True, True), transpose=False)) == 4


def test_several_inputs_are_centred(tmp_path):
    network = (
        Network()
        .input("wide")
        .conv("c1", 2, (3, 5, 5), "forward_logistics", node="output")
        .input("narrow")
        .conv("c2", 2, (1, 3, 3), to="output")
    )
    state = without_preprocessing(make_state(network, "binomial", "boundary"))
    images = {"wide": make_image((6, 20, 20)) / 255, "narrow": make_image((6, 20, 20), 2) / 255}
    out = predict(state, images, tmp_path / "o", block=(2, 8, 8), progress=False)
    inputs = {"wide": images["wide"], "narrow": images["narrow"][1:-1, 1:-1, 1:-1]}
    y = reference.forward(network, state.parameters, {n: x[..., None] for n, x in inputs.items()})
    np.testing.assert_allclose(open_array(out)[:], np.moveaxis(y["output"], -1, 0), atol=2e-6)


def test_a_channel_image(tmp_path):
    network = Network().input(size=2).conv("c", 1, (1, 3, 3), "forward_logistics", node="output")
    state = without_preprocessing(make_state(network, "binomial", "boundary"))
    image = (make_image((2, 3, 12, 12)) / 255).astype(np.float32)
    out = predict(state, image, tmp_path / "o", progress=False)
    x = np.moveaxis(image, 0, -1).astype(float)
    y = reference.forward(network, state.parameters, {"input": x})["output"]
    np.testing.assert_allclose(open_array(out)[:], np.moveaxis(y, -1, 0), atol=2e-6)


def test_a_finished_prediction_is_not_computed_again(tmp_path, image, watched):
    for expected in (27, 27):
        predict(boundary_state(), image, tmp_path / "o", block=BLOCK, progress=False)
        assert watched.calls == expected
    predict(boundary_state(), image, tmp_path / "o", progress=False)  # goes on with that block
    assert watched.calls == 27
    predict(boundary_state(), image, tmp_path / "o", block=BLOCK, progress=False, overwrite=True)
    assert watched.calls == 54


def test_all_zero_blocks_are_done_too(tmp_path, image, watched):
    state = boundary_state()
    parameters = {name: np.zeros_like(p) for name, p in state.parameters.items()}
    zero = replace(state, parameters=parameters, loss="square")
    out = predict(zero, image, tmp_path / "o", block=BLOCK, progress=False)
    assert not open_array(out)[:].any()
    assert prediction_status(out).finished
    predict(zero, image, tmp_path / "o", block=BLOCK, progress=False)
    assert watched.calls == 27


def test_memory_bounds_the_blocks_that_compute(tmp_path, image, watched, monkeypatch):
    need = Cost(boundary_network()).chosen(BLOCK)
    monkeypatch.setattr(prediction, "cores", lambda: 4)
    predict(boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False)
    assert 2 <= watched.peak <= 5  # one for each thread, and one to fill gaps
    watched.reset()
    predict(
        boundary_state(),
        image,
        tmp_path / "b",
        block=BLOCK,
        progress=False,
        memory_limit=need.bytes(Room(2, 1)),
    )
    assert watched.peak == 2
    least = need.bytes(Room(1, 1))
    with pytest.raises(PredictionError, match=r"one block needs about"):
        predict(boundary_state(), image, tmp_path / "c", block=BLOCK, memory_limit=least - 1)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": boundary_state(seed=9)}, r"begun with checkpoint \w{16} but .* \w{16}"),
        ({"block": (5, 8, 24)}, r"begun with block \(5, 16, 24\) but this run has \(5, 8, 24\)"),
        ({"border": "mirror"}, r"begun with border valid but this run has mirror"),
        ({"dtype": "uint8"}, r"begun with dtype float32 but this run has uint8"),
        ({"augment": True}, r"begun with augment 1 but this run has 8"),
        ({"image": make_image(SHAPE, seed=5)}, r"begun with image \w{16} but this run has \w{16}"),
    ],
)
def test_another_run_is_refused(tmp_path, image, change, message):
    given = {"checkpoint": boundary_state(), "image": image, "block": (5, 16, 24)} | change
    predict(boundary_state(), image, tmp_path / "o", block=(5, 16, 24), progress=False)
    before = open_array(tmp_path / "o")[:]
    with pytest.raises(PredictionError, match=message) as caught:
        predict(out=tmp_path / "o", progress=False, **given)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(open_array(tmp_path / "o")[:], before)
    predict(out=tmp_path / "o", progress=False, overwrite=True, **given)


def test_what_is_not_a_prediction_is_never_overwritten(tmp_path, image):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("mine")
    for place in ("notes", "notes/a.txt", "in.zarr", "in.zarr/image"):
        with pytest.raises(PredictionError, match="choose another output path"):
            predict(boundary_state(), image, tmp_path / place, overwrite=True)
    assert (tmp_path / "notes/a.txt").read_text() == "mine"
    np.testing.assert_array_equal(open_array(image)[:], make_image(SHAPE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": (2, 12, 16), "chunks": (2, 8, 8)}, "not whole chunks"),
        ({"block": (0, 8, 8)}, "three positive numbers"),
        ({"region": ((0, 3), (6, 20), (5, 30))}, "z 0:3.*z 1:6"),
        ({"augment": 4}, "augment is 4"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"border": "zero"}, "border is 'zero'"),
        ({"memory_limit": "much"}, "memory_limit is 'much'"),
        ({"output": "nowhere"}, "'nowhere' is not one of them"),
        ({"image": np.zeros((2, 5, 20, 20), np.uint8)}, "2 channels.*takes 1"),
        ({"image": np.zeros((5, 8, 20), np.uint8)}, "field of view"),
        ({"image": np.zeros((20, 20), np.uint8)}, "2 axes"),
    ],
)
def test_bad_requests_get_one_line_and_write_nothing(tmp_path, image, arguments, message):
    given = {"image": image} | arguments
    with pytest.raises(PredictionError, match=message) as caught:
        predict(boundary_state(), out=tmp_path / "o", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_block_that_fails_is_tried_again_then_named(tmp_path, image, monkeypatch):
    class Failing(reference.Wrapped):
        failures = 2

        def before(self):
            cls = type(self)
            if cls.failures:
                cls.failures -= 1
                raise OSError("disk on fire\nreally")

    monkeypatch.setattr(prediction, "ForwardPass", Failing)
    monkeypatch.setattr(prediction, "cores", lambda: 1)
    out = predict(boundary_state(), image, tmp_path / "a", progress=False)
    assert prediction_status(out).finished
    Failing.failures = 10**6
    with pytest.raises(
        PredictionError, match=r"block \d+ \(z \d+:\d+.*3 times.*OSError: disk on fire really"
    ):
        predict(boundary_state(), image, tmp_path / "b", block=BLOCK, progress=False)


def test_an_interrupted_run_goes_on_with_the_arithmetic_it_began_with(tmp_path, image, monkeypatch):
    arguments = {"image": image, "out": tmp_path / "o", "block": BLOCK, "progress": False}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "run_local", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict(boundary_state(), **arguments)
    monkeypatch.undo()
    begun_with = choose_arithmetic(boundary_network(), BLOCK)
    seen = []

    class Seen(reference.Wrapped):
        def __init__(self, *args, arithmetic, **kwargs):
            seen.append(arithmetic)
            super().__init__(*args, arithmetic=arithmetic, **kwargs)

    monkeypatch.setattr(prediction, "ForwardPass", Seen)
    monkeypatch.setattr("znn_dask.inference.sizing.choose_arithmetic", None)
    predict(boundary_state(), **arguments)
    assert seen == [begun_with]


def test_object_stores(image):
    """No renames, no local paths: written, continued and overwritten behind a URL."""
    out = "memory://bucket/out.zarr"
    assert predict(boundary_state(), image, out, block=(5, 16, 24), progress=False) == out
    expected = dense(boundary_network(), boundary_state(), standardised(make_image(SHAPE)))
    np.testing.assert_allclose(open_array(out)[:], expected, atol=2e-6)
    with pytest.raises(PredictionError, match="begun with dtype"):
        predict(boundary_state(), image, out, dtype="uint8", progress=False)
    predict(boundary_state(), image, out, dtype="uint8", progress=False, overwrite=True)
    assert open_array(out).dtype == np.uint8


def test_given_chunks_stay_with_a_prediction(tmp_path, image, watched):
    arguments = {"image": image, "out": tmp_path / "o", "progress": False}
    predict(boundary_state(), block=BLOCK, chunks=(1, 8, 8), **arguments)
    assert open_array(tmp_path / "o").chunks == (1, 1, 8, 8)
    watched.reset()
    predict(boundary_state(), block=BLOCK, **arguments)
    assert watched.calls == 0
    with pytest.raises(PredictionError, match=r"begun with chunks \(1, 8, 8\).* \(2, 8, 8\)"):
        predict(boundary_state(), block=BLOCK, chunks=(2, 8, 8), **arguments)
