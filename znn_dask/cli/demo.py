"""`demo`: everything once, on synthetic tissue or one's own volume."""

from pathlib import Path

from znn_dask.cli.arguments import Switch
from znn_dask.cli.errors import say


def demo(
    *,
    data: str | None = None,
    out: Path = Path("znn-demo"),
    seconds: float = 120.0,
    open_: Switch = False,
) -> None:
    """Train, predict, segment and score in about two minutes, with a report page of pictures.

    Example:

        znn-dask demo --open

    Parameters
    ----------
    data
        A volume with image and labels; the last quarter along x is held out. Synthetic electron
        microscopy when not given.
    out
        Folder for all that it makes.
    seconds
        About how long it may take on two cores; decides the number of updates.
    open_
        Open the report in the browser.
    """
    from znn_dask.demo import run_demo

    report = run_demo(out, data=data, seconds=seconds)
    if open_:
        import webbrowser

        webbrowser.open(report.as_uri())
    say(f"report: {report}")
