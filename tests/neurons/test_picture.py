"""Pictures of objects: the right objects at the right place, in the right size."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import ball

from znn_dask.neurons import NeuronError, mesh, picture
from znn_dask.neurons.ambient import openness
from znn_dask.neurons.rasterise import rasterise
from znn_dask.report.colours import PALETTE


def hue(rgb: np.ndarray) -> np.ndarray:
    """Colour without brightness, unit vectors."""
    bare = rgb.astype(float) - rgb.min()
    result: np.ndarray = bare / np.linalg.norm(bare)
    return result


def two_balls() -> np.ndarray:
    """(40, 60, 100): a large ball at the left, a small one at the right."""
    objects = np.zeros((40, 60, 100), np.uint8)
    objects[ball(objects.shape, (20, 30, 30), 18)] = 4
    objects[ball(objects.shape, (20, 30, 80), 10)] = 9
    return objects


def test_two_balls_from_the_front(tmp_path: Path) -> None:
    shown = mesh(two_balls(), tmp_path / "m", voxel_size=(10, 10, 10), progress=False)
    drawn = picture(shown, size=400, azimuth=0, elevation=0)
    pixels = drawn.pixels
    assert pixels.shape[1] == pytest.approx(400, abs=1)
    border, per_voxel = 16, (400 - 32) / 78  # the objects take 78 voxels along x
    for rank, x in ((0, 30 - 12), (1, 80 - 12)):
        found = pixels[round(border + 18 * per_voxel), round(border + x * per_voxel)]
        assert hue(found) @ hue(PALETTE[rank]) > 0.9
    corner = pixels[border + 4, border + 4]
    np.testing.assert_array_equal(corner, 255)
    # The discs have the area of the balls: colour is where red, green and blue differ.
    spread = np.ptp(pixels[: round(border + 37 * per_voxel)].astype(int), axis=2)
    coloured = (spread > 25).sum() / per_voxel**2
    assert coloured == pytest.approx(np.pi * (18**2 + 10**2), rel=0.03)
    dark = picture(shown, size=200, background="dark").pixels
    assert dark[2, 2].max() < 40
    path = drawn.save(tmp_path / "balls.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(drawn._repr_png_()))), pixels)


def test_the_nearest_triangle_is_seen() -> None:
    rows, columns = 50, 70
    square = np.array([[5, 5], [60, 5], [60, 45], [5, 45]], float)
    corners = np.concatenate([np.column_stack([square, np.full(4, h)]) for h in (1.0, 2.0)])
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    both = np.concatenate([faces, faces + 4])
    seen, depth = rasterise(corners, both, (rows, columns))
    inside = seen[5:45, 5:60]
    assert set(np.unique(inside)) == {2, 3}
    np.testing.assert_allclose(depth[5:45, 5:60], 2)
    assert (seen >= 0).sum() == 40 * 55
    turned, _ = rasterise(corners, both[:, ::-1], (rows, columns))
    assert (turned < 0).all()  # they face away


def test_light_does_not_reach_into_a_hole() -> None:
    """A floor with a deep pit in it."""
    y, x = np.mgrid[0:60, 0:60].astype(float)
    pit = (np.hypot(y - 30, x - 30) < 6).ravel()
    points = np.stack([x.ravel(), y.ravel(), np.where(pit, -25, 0)], axis=1)
    up = np.tile((0.0, 0, 1), (len(points), 1))
    light = openness(points, up, cell=1.0, lights=128)
    assert light[~pit].min() > 0.95
    middle = np.hypot(points[:, 0] - 30, points[:, 1] - 30) < 2
    assert light[middle].max() < 0.5


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(NeuronError, match="size 5, background 'white'"):
        picture(two_balls(), size=5)
    with pytest.raises(NeuronError, match="10 triangles show nothing"):
        picture(two_balls(), triangles=10)
    shown = mesh(two_balls(), tmp_path / "m", ids=[4], progress=False)
    with pytest.raises(NeuronError, match="has no mesh of object 9"):
        picture(shown, ids=[9])
