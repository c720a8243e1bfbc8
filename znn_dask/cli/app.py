"""The command line: its commands, and how it ends.

Modules of commands import what they need when they run, so that `--help` and `info` start at once.
"""

from collections.abc import Sequence

from cyclopts import App

from znn_dask.cli import (
    bench,
    certificates,
    demo,
    evaluation,
    exporting,
    importing,
    jobs,
    network,
    neurons,
    prediction,
    segmentation,
    training,
    tuning,
)
from znn_dask.cli.errors import guarded

_HELP = """\
Train and run 3D convolutional networks on microscopy volumes, fast on CPUs.

From a picture to objects:

    znn-dask import raw.tif volume.zarr --name image --voxel-size 30,8,8
    znn-dask import truth.tif volume.zarr --name labels
    znn-dask train --example > config.toml
    znn-dask train config.toml
    znn-dask predict checkpoints volume.zarr/image map.zarr
    znn-dask segment map.zarr objects.zarr
    znn-dask evaluate objects.zarr volume.zarr/labels
    znn-dask view objects.zarr neurons.html --image volume.zarr/image

Nothing at hand? `znn-dask demo` does all of it on synthetic tissue in about two minutes.
"""
_EPILOGUE = """\
What you gave wrong ends as one line and exit code 2; Ctrl-C ends cleanly with 130. \
ZNN_DASK_TRACEBACK=1 in the environment shows where an error came from.
"""


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"znn-dask {version('znn-dask')}"
    except PackageNotFoundError:
        return "znn-dask (not installed)"


app = App(
    name="znn-dask",
    help=_HELP,
    help_format="markdown",
    help_epilogue=_EPILOGUE,
    version=_version,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
app.command(demo.demo)
app.command(importing.import_, name="import")
app.command(importing.pyramid)
app.command(training.train)
app.command(prediction.predict)
app.command(segmentation.segment)
app.command(evaluation.evaluate)
app.command(neurons.mesh)
app.command(neurons.skeletonize)
app.command(neurons.view)
app.command(neurons.picture)
app.command(jobs.submit)
app.command(jobs.jobs)
app.command(jobs.logs)
app.command(jobs.attach)
app.command(jobs.cancel)
app.command(jobs.resume)
app.command(jobs.fetch)
app.command(network.info)
app.command(network.plan)
app.command(tuning.tune)
app.command(exporting.export)
app.command(bench.bench)
app.command(certificates.certificates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (`sys.argv` when not given); returns the exit code."""
    return guarded(lambda: app(arguments, exit_on_error=False, print_error=False))
