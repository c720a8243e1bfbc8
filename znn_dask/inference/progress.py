"""The progress bar of a prediction."""

from collections.abc import Iterable, Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from znn_dask.inference.job import BlockReport


class VoxelRate(ProgressColumn):
    """Output voxels per second, over the whole run."""

    def render(self, task: Task) -> Text:
        voxels, elapsed = task.fields["voxels"], task.elapsed
        return Text(f"{voxels / elapsed:,.0f} voxels/s" if voxels and elapsed else "- voxels/s")


def show(reports: Iterable[BlockReport], done: int, total: int, title: str) -> Iterator[None]:
    """Draw a bar of `total` blocks, `done` of them before this run, while `reports` come in."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        VoxelRate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=done, voxels=0)
        voxels = 0
        for report in reports:
            voxels += report.voxels
            bar.update(task, advance=1, voxels=voxels)
            yield
