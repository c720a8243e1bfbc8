"""Which blocks a volume is cut into, and the memory that they need."""

import math
from dataclasses import dataclass

from znn_dask.kernels.geometry import Triple
from znn_dask.segmentation.grid import Grid, triple
from znn_dask.segmentation.maps import SegmentationError
from znn_dask.segmentation.watershed import Landscape

CHUNK = 64
"""Edge of the chunks that objects are stored in; blocks are whole chunks."""

LARGEST = 256
"""Longest edge of a block that is chosen, where memory allows it."""

BYTES_PER_VOXEL = 40
"""Peak of a block's work, by voxel of the block with its halo; measured."""

SECONDS_PER_VOXEL = 0.45e-6
"""Of one thread, all stages, by voxel of a block with its halo; measured."""


@dataclass(frozen=True)
class Need:
    """What blocks of a volume of shape `world` need.

    channels: of the map. landscape: whose halo is read around every block.
    """

    world: Triple
    channels: int
    landscape: Landscape

    def voxels(self, block: Triple) -> int:
        """Voxels of a block with its halo."""
        return math.prod(
            min(b + 2 * h, n)
            for b, h, n in zip(block, self.landscape.halo, self.world, strict=True)
        )

    def bytes(self, block: Triple) -> int:
        """Memory that a block takes while it is worked on."""
        return self.voxels(block) * (BYTES_PER_VOXEL + 4 * self.channels)

    def seconds(self, grid: Grid) -> float:
        """Of one thread, for all blocks."""
        return len(grid) * self.voxels(grid.block) * SECONDS_PER_VOXEL

    def waste(self, grid: Grid) -> float:
        """Share of the work that is done on halos."""
        return 1 - math.prod(self.world) / (len(grid) * self.voxels(grid.block))

    def checked(self, block: Triple) -> Triple:
        """The block, cut to the volume; raises SegmentationError unless it is whole chunks."""
        fitting = triple(min(b, n) for b, n in zip(block, self.world, strict=True))
        for axis, b, n in zip("zyx", fitting, self.world, strict=True):
            if b < 1 or (b < n and b % CHUNK):
                raise SegmentationError(
                    f"a block of {block} voxels is not whole chunks along {axis}; "
                    f"give {axis} a multiple of {CHUNK}"
                )
        return fitting

    def choose(self, threads: int, memory: int) -> Triple:
        """The largest block of which one fits for every thread, and each thread gets one.

        memory: bytes for all threads of a process. Raises SegmentationError, with the numbers, when
        not even one of the smallest blocks fits.
        """
        block = triple(min(LARGEST, n) for n in self.world)
        while True:
            shorter = [
                max(_halved(b), min(CHUNK, n)) for b, n in zip(block, self.world, strict=True)
            ]
            room = memory // self.bytes(block)
            if room >= threads and len(Grid(self.world, block)) >= threads:
                return block
            longest = max(range(3), key=lambda a: (block[a] > shorter[a], block[a], -a))
            if shorter[longest] == block[longest]:
                self.lanes(block, threads, memory)
                return block
            block = triple(shorter[a] if a == longest else block[a] for a in range(3))

    def lanes(self, block: Triple, threads: int, memory: int) -> int:
        """How many blocks are under way at a time; raises SegmentationError when none fits."""
        room = memory // self.bytes(block)
        if room < 1:
            size = "x".join(str(n) for n in block)
            raise SegmentationError(
                f"a block of {size} voxels needs about {mib(self.bytes(block))} and {mib(memory)} "
                "may be used; raise memory_limit or give a smaller block"
            )
        return min(threads, room)


def _halved(edge: int) -> int:
    """Whole chunks of about half an edge."""
    return max(CHUNK, math.ceil(edge / 2 / CHUNK) * CHUNK)


def mib(size: float) -> str:
    """`1234 MiB`."""
    return f"{size / 2**20:.0f} MiB"
