"""Watching a prediction: what it tells, block by block, to whoever shows or records it."""

from collections.abc import Collection

from znn_dask.inference.blocks import BlockPlan


class Watcher:
    """Does nothing; what a subclass overrides is called in the thread that calls `predict`.

    What a method raises ends the prediction; finished blocks are kept.
    """

    def begin(self, plan: BlockPlan, done: Collection[int], place: str) -> None:
        """Blocks are about to be computed, but for those that earlier runs have done."""

    def finished(self, block: int) -> None:
        """A block (its number in the plan) is computed, written and marked."""

    def end(self) -> None:
        """`predict` ends, however it does."""
