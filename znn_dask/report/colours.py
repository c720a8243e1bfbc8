"""Colours: of charts; of objects, stable per id, well apart, matched between truth and objects."""

import colorsys

import numpy as np

# Of lines and areas: Okabe and Ito's colours, which differ for colour-blind readers too.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
SKY, GREEN, PINK = "#56B4E9", "#009E73", "#CC79A7"
INK, MUTED, GRID = "#1f2933", "#6b7785", "#e3e8ee"

_GOLDEN = 0.6180339887498949
_PALETTE_SIZE = 1021  # prime, so that regular id patterns do not repeat a colour soon


def _palette() -> np.ndarray:
    """(n, 3) float32 RGB: hues by the golden ratio, in three steps of lightness."""
    colours = []
    for i in range(_PALETTE_SIZE):
        hue = (i * _GOLDEN + 0.08) % 1
        lightness = (0.56, 0.68, 0.47)[i % 3]
        saturation = (0.72, 0.58, 0.62)[(i // 3) % 3]
        colours.append(colorsys.hls_to_rgb(hue, lightness, saturation))
    return np.array(colours, np.float32)


PALETTE = _palette()


def colour_slots(ids: np.ndarray) -> np.ndarray:
    """Palette row (int64) of every id; the same id always has the same colour."""
    hashed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((hashed >> np.uint64(33)) % np.uint64(_PALETTE_SIZE)).astype(np.int64)


def matched_slots(objects: np.ndarray, truth: np.ndarray) -> dict[int, int]:
    """Palette row per object id: the largest part of each label takes that label's colour.

    So an object split off, or one that swallowed a second label, stands out against the truth.
    """
    pairs, counts = np.unique(
        np.stack([objects.ravel(), truth.ravel()], axis=1), axis=0, return_counts=True
    )
    ids = np.unique(pairs[:, 0])
    slots = dict(zip(ids.tolist(), colour_slots(ids + np.uint64(7919)).tolist(), strict=True))
    taken: set[int] = set()
    settled: set[int] = set()
    for row in np.argsort(-counts, kind="stable"):
        part, label = int(pairs[row, 0]), int(pairs[row, 1])
        if part and label and part not in settled and label not in taken:
            slots[part] = int(colour_slots(pairs[row, 1:2])[0])
            taken.add(label)
        settled.add(part)
    return slots


def outlines(ids: np.ndarray) -> np.ndarray:
    """Pixels (bool) of a slice of ids (rows, columns) whose right or lower neighbour differs."""
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[1:] != ids[:-1]
    edge[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    return edge


def grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """(rows, columns, 3) float32 RGB in [0, 1] of a slice, black at `low`, white at `high`."""
    scaled = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat(scaled[..., None], 3, axis=2)


def overlay(
    background: np.ndarray, ids: np.ndarray, slots: dict[int, int] | None = None
) -> np.ndarray:
    """Colour the objects of a slice over a grey background; id 0 stays grey.

    background: (rows, columns, 3) float32; ids: (rows, columns). Returns RGB as background.
    """
    distinct, inverse = np.unique(ids, return_inverse=True)
    chosen = colour_slots(distinct)
    if slots is not None:
        chosen = np.array([slots[int(i)] for i in distinct])
    colours = PALETTE[chosen][inverse.reshape(ids.shape)]
    mixed = 0.42 * background + 0.58 * colours
    mixed[outlines(ids)] *= 0.35
    unlabelled = ids == 0
    mixed[unlabelled] = background[unlabelled]
    result: np.ndarray = mixed
    return result
