"""Segment a map with thresholds chosen on the training part, and score the held-out part.

    python score.py fib25.zarr map.zarr objects.zarr --train :,:,0:180 --held-out :,:,190:250

Writes the scores (JSON) and a picture beside the objects.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import cc3d
import numpy as np

import znn_dask as znn
from znn_dask.report import save, slice_panels
from znn_dask.segmentation import (
    SegmentationParameters,
    best_parameters,
    evaluate,
    raw_watershed,
    segment,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", help="with items image and labels")
    parser.add_argument("map", help="what znn-dask predict wrote")
    parser.add_argument("objects", help="where the objects of the held-out part go")
    parser.add_argument("--train", required=True, help="region z,y,x for choosing thresholds")
    parser.add_argument("--held-out", required=True, help="region z,y,x that is scored")
    parser.add_argument("--in-plane", action="store_true", help="every slice by itself")
    arguments = parser.parse_args()

    volume = znn.open_volume(arguments.volume)
    truth = {"relabel_components": True, "in_plane": arguments.in_plane}
    search = best_parameters(
        arguments.map,
        volume.labels,
        region=arguments.train,
        start=SegmentationParameters(in_plane=arguments.in_plane),
        voxel_size=volume.voxel_size,
    )
    chosen = {"threshold": search.best.threshold, "seed_threshold": search.best.seed_threshold}
    segment(
        arguments.map,
        arguments.objects,
        region=arguments.held_out,
        in_plane=arguments.in_plane,
        overwrite=True,
        **chosen,
    )
    scores = evaluate(arguments.objects, volume.labels, region=arguments.held_out, **truth)

    box = tuple(_slice(part) for part in arguments.held_out.split(","))
    image = np.asarray(volume.image[box])
    raw = raw_watershed(image, voxel_size=volume.voxel_size, in_plane=arguments.in_plane)
    floor = evaluate(raw, volume.labels, region=arguments.held_out, **truth)
    result = {
        "chosen": chosen,
        "training part": asdict(search.scores),
        "held out": asdict(scores),
        "raw watershed": asdict(floor),
    }
    place = Path(arguments.objects).with_suffix("")
    place.with_suffix(".json").write_text(json.dumps(result, indent=2))
    for name in ("training part", "held out", "raw watershed"):
        row = result[name]
        print(
            f"{name:14s} adapted Rand error {row['adapted_rand_error']:.3f}   "
            f"VI split {row['vi_split']:.2f} + merge {row['vi_merge']:.2f} bits"
        )

    values = znn.open_array(arguments.map)
    probability = np.asarray(values[(slice(None), *box)])
    boundary = probability[1] if len(probability) == 2 else 1 - probability.min(axis=0)
    figure = slice_panels(
        image,
        _components(np.asarray(volume.labels[box]), arguments.in_plane),
        boundary,
        np.asarray(znn.open_array(arguments.objects)),
        views=1 if arguments.in_plane else 3,
        voxel_size=volume.voxel_size,
    )
    save(figure, place.with_suffix(".png"))


def _components(labels: np.ndarray, in_plane: bool) -> np.ndarray:
    """Labels as they are scored: split into connected pieces, 26-connected or slice by slice."""
    if in_plane:
        return np.stack([cc3d.connected_components(plane, connectivity=8) for plane in labels])
    return cc3d.connected_components(labels, connectivity=26)


def _slice(text: str) -> slice:
    start, _, stop = text.partition(":")
    return slice(int(start) if start else None, int(stop) if stop else None)


if __name__ == "__main__":
    main()
