"""The block plan: every output voxel is written by exactly one task, in whole chunks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.inference.blocks import (
    BlockPlan,
    PredictionError,
    box_shape,
    half_field,
    output_extent,
)
from znn_dask.inference.border import read_box
from znn_dask.network import Network


def plan_of(image, fov, block, unit, border="valid", margin=(0, 0, 0), fields=None):
    origin, shape = output_extent(image, fov, border)
    return BlockPlan(image, fields or {"input": fov}, border, origin, shape, unit, block, margin)


axes = st.tuples(*[st.integers(1, 7)] * 3)


@settings(max_examples=60, deadline=None)
@given(fov=axes, extra=axes, chunk=axes, times=axes, border=st.sampled_from(["valid", "mirror"]))
def test_each_voxel_and_each_chunk_belongs_to_one_block(fov, extra, chunk, times, border):
    image = tuple(f + 3 * e for f, e in zip(fov, extra, strict=True))
    block = tuple(c * t for c, t in zip(chunk, times, strict=True))
    plan = plan_of(image, fov, block, chunk, border)
    owner = np.full(plan.output_shape, -1)
    for piece in plan:
        assert (owner[piece.write] == -1).all()
        owner[piece.write] = piece.index
        compute, write = piece.compute, plan.to_dense(piece.write)
        assert box_shape(compute) == plan.compute_shape
        assert all(
            c.start <= w.start and w.stop <= c.stop for c, w in zip(compute, write, strict=True)
        )
        if border == "valid":
            read = plan.input_box("input", compute)
            assert all(r.start >= 0 and r.stop <= n for r, n in zip(read, image, strict=True))
    assert (owner >= 0).all()
    for axis in range(3):  # within a chunk the owner never changes
        n, c = plan.output_shape[axis], chunk[axis]
        lines = np.moveaxis(owner, axis, 0)
        for start in range(0, n, c):
            assert (lines[start : start + c] == lines[start]).all()
    assert plan.count == len(list(plan))


def test_plan_survives_json():
    plan = plan_of((20, 30, 40), (3, 5, 7), (8, 8, 16), (4, 8, 8), "mirror", (1, 1, 1))
    assert BlockPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_misaligned_blocks_are_refused():
    with pytest.raises(PredictionError, match=r"\(8, 12, 8\).*\(8, 8, 8\).*along y"):
        plan_of((40, 40, 40), (3, 3, 3), (8, 12, 8), (8, 8, 8))


def test_a_block_as_long_as_the_axis_need_not_be_whole_chunks():
    assert plan_of((40, 40, 40), (3, 3, 3), (8, 38, 8), (8, 8, 8)).grid == (5, 1, 5)


def test_smaller_inputs_are_centred_in_the_largest():
    network = Network().input("a").conv("c", 1, (1, 3, 3)).input("b")
    fields = {"a": (1, 3, 3), "b": (3, 9, 7)}
    plan = plan_of((10, 20, 20), (3, 9, 7), (8, 12, 14), (8, 12, 14), fields=fields)
    compute = plan.at(0).compute
    assert plan.input_box("b", compute) == np.s_[0:10, 0:20, 0:20]
    assert plan.input_box("a", compute) == np.s_[1:9, 3:17, 2:18]
    assert network.inputs


def test_extent():
    assert output_extent((10, 20, 30), (3, 4, 5), "valid") == ((0, 0, 0), (8, 17, 26))
    assert output_extent((10, 20, 30), (3, 4, 5), "mirror") == ((-1, -1, -2), (10, 20, 30))
    region = np.s_[1:3, 5:9, 10:20]
    assert output_extent((10, 20, 30), (3, 4, 5), "valid", region) == ((0, 4, 8), (2, 4, 10))
    with pytest.raises(PredictionError, match=r"z 0:3.*z 1:9"):
        output_extent((10, 20, 30), (3, 4, 5), "valid", np.s_[0:3, 5:9, 10:20])
    with pytest.raises(PredictionError, match=r"\(2, 20, 30\).*\(3, 4, 5\)"):
        output_extent((2, 20, 30), (3, 4, 5), "valid")
    assert half_field((3, 4, 5)) == (1, 1, 2)


@settings(max_examples=80, deadline=None)
@given(
    shape=axes,
    low=st.tuples(*[st.integers(-30, 10)] * 3),
    size=axes,
    channels=st.sampled_from([(), (2,)]),
)
def test_read_box_is_symmetric_padding(shape, low, size, channels):
    image = np.random.default_rng(0).integers(0, 255, (*channels, *shape))
    before, after = 30, 30
    padded = np.pad(image, [(0, 0)] * len(channels) + [(before, after)] * 3, mode="symmetric")
    region = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
    shifted = tuple(slice(s.start + before, s.stop + before) for s in region)
    expected = padded[(..., *shifted)]
    np.testing.assert_array_equal(read_box(image, region), expected)
