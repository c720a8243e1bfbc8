"""Segmenting volumes block by block: speed, memory, and whether blocks change the objects.

    python benchmarks/segmentation.py --labels labels.tif [--edges 256,512] [--folder .]

Maps are simulated from labels (blurred boundaries with noise), tiled by mirror images to the edge
wanted. Every row is a process of its own, so its peak memory is its own. The table is printed.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage

CHUNK = 64


def simulate(labels: np.ndarray, edge: int, place: Path, noise: float) -> None:
    """Write a boundary map (z, y, x) uint8 and labels of `edge` voxels, slab by slab."""
    pad = [(0, max(0, edge - n)) for n in labels.shape]
    tiled = np.pad(labels, pad, mode="symmetric")[:edge, :edge, :edge]
    arrays = {
        name: zarr.create_array(
            str(place / name), shape=tiled.shape, chunks=(CHUNK,) * 3, dtype=dtype, overwrite=True
        )
        for name, dtype in (("map", "uint8"), ("labels", "uint16"))
    }
    random = np.random.default_rng(0)
    for start in range(0, edge, CHUNK):
        low, high = max(0, start - 4), min(edge, start + CHUNK + 4)
        ids = tiled[low:high]
        boundary = np.zeros(ids.shape, np.float32)
        for axis in range(3):
            here, along = np.moveaxis(ids, axis, 0), np.moveaxis(boundary, axis, 0)
            different = here[1:] != here[:-1]
            along[1:][different] = along[:-1][different] = 1
        grain = ndimage.gaussian_filter(random.normal(size=ids.shape).astype(np.float32), 0.8)
        boundary = ndimage.gaussian_filter(boundary, 0.8) + noise / grain.std() * grain
        own = slice(start - low, start - low + min(CHUNK, edge - start))
        arrays["map"][start : start + CHUNK] = np.rint(np.clip(boundary, 0, 1) * 255)[own]
        arrays["labels"][start : start + CHUNK] = ids[own]


def measure(source: str, out: str, block: str, threads: int) -> dict[str, float]:
    """One row, in this process: seconds and peak MiB of `segment`, without its imports."""
    from znn_dask.segmentation import segment

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    edges = tuple(int(n) for n in block.split(","))
    segment(source, out, block=edges, threads=threads, threshold=0.6, progress=False)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (peak - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", required=True, help="TIFF stack of labels (z, y, x)")
    parser.add_argument("--edges", default="256,512")
    parser.add_argument("--folder", type=Path, default=Path("segmentation-benchmark"))
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        source, out, block, threads = given.row
        print(json.dumps(measure(source, out, block, int(threads))))
        return

    import tifffile

    from znn_dask.data.volume import open_array
    from znn_dask.segmentation import evaluate

    labels = tifffile.imread(given.labels)
    print("| volume | block | threads | voxels/s | seconds | peak MiB | as first row | error, VI |")
    print("|---|---|---|---|---|---|---|---|")
    for edge in (int(n) for n in given.edges.split(",")):
        place = given.folder / str(edge)
        simulate(labels, edge, place, given.noise)
        first = None
        whole = ",".join([str(edge)] * 3)
        rows = [("128,128,128", 1), ("128,128,128", 2), ("256,256,256", 1), ("256,256,256", 2)]
        rows += [(whole, 1)] if edge > 256 else []
        for block, threads in rows:
            out = place / f"objects-{block.replace(',', '-')}-{threads}.zarr"
            row = subprocess.run(
                [
                    *(sys.executable, __file__, "--labels", given.labels),
                    *("--row", str(place / "map"), str(out), block, str(threads)),
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(row.stdout)
            array = open_array(out)
            if first is None:
                first = array
            slabs = range(0, edge, CHUNK)
            same = all(np.array_equal(array[z : z + CHUNK], first[z : z + CHUNK]) for z in slabs)
            scores = evaluate(out, str(place / "labels"), relabel_components=True)
            print(
                f"| {edge}^3 | {block} | {threads} | {edge**3 / found['seconds']:,.0f} "
                f"| {found['seconds']:.1f} | {found['mib']:.0f} | {'same bits' if same else 'NO'} "
                f"| {scores.adapted_rand_error:.4f}, {scores.vi:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
