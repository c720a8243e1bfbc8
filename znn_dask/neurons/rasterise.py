"""Which triangle is seen at each pixel, computed in numpy: no graphics card, no display."""

import numpy as np

_AT_ONCE = 1 << 21
"""Pixels that are tested together; bounds the memory."""


def rasterise(
    corners: np.ndarray, faces: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest triangle (rows, columns) int32 at each pixel, -1 for none, and its depth.

    corners: (n, 3) column, row and height over the picture, in pixels; higher is nearer, and pixel
    (r, c) has its middle at r + 0.5, c + 0.5. faces: (m, 3), those that turn clockwise on the
    screen (rows downwards) are seen, others face away. Depth is -inf where there is no triangle.
    """
    depth = np.full(shape[0] * shape[1], -np.inf, np.float32)
    seen = np.full(shape[0] * shape[1], -1, np.int32)
    points = corners[faces]
    low = np.clip(np.ceil(points[..., :2].min(axis=1) - 0.5), 0, None).astype(np.int64)
    high = np.floor(points[..., :2].max(axis=1) - 0.5).astype(np.int64)
    high = np.minimum(high, (shape[1] - 1, shape[0] - 1))
    width, tall = (high - low + 1).T
    (ax, ay), (bx, by), (cx, cy) = (points[:, k, :2].T for k in range(3))
    double = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    drawn = np.flatnonzero((width > 0) & (tall > 0) & (double < 0))
    # Triangles with boxes alike in size are tested together.
    side = np.ceil(np.log2(np.maximum(width, tall)[drawn])).astype(np.int64)
    for power in np.unique(side):
        edge = 1 << int(power)
        rows, columns = np.divmod(np.arange(edge * edge), edge)
        alike = drawn[side == power]
        step = max(1, _AT_ONCE // (edge * edge))
        for start in range(0, len(alike), step):
            which = alike[start : start + step]
            x = low[which, 0, None] + columns
            y = low[which, 1, None] + rows
            across, down, height = np.moveaxis(points[which, :, :, None], (2, 1), (0, 1))
            weights = barycentric(across, down, x + 0.5, y + 0.5)
            inside = (weights >= 0).all(axis=0)
            inside &= (x <= high[which, 0, None]) & (y <= high[which, 1, None])
            found = np.nonzero(inside)
            z = (weights * height).sum(axis=0)[found].astype(np.float32)
            pixels = (y * shape[1] + x)[found]
            np.maximum.at(depth, pixels, z)
            nearest = z == depth[pixels]
            seen[pixels[nearest]] = which[found[0][nearest]]
    return seen.reshape(shape), depth.reshape(shape)


def barycentric(across: np.ndarray, down: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights (3, ...) of the corners of triangles at x, y; across, down: (3 corners, ...)."""
    (ax, bx, cx), (ay, by, cy) = across, down
    double = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    a = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / double
    b = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / double
    return np.stack([a, b, 1 - a - b])
