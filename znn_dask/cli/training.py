"""`train`: a network from a configuration file."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from znn_dask.cli.arguments import Switch, connect
from znn_dask.cli.errors import INTERRUPTED, say

Overrides = Annotated[
    tuple[str, ...], Parameter(name="--set", negative=(), show_default=False, metavar="KEY=VALUE")
]


def train(
    config: Path | None = None,
    /,
    *,
    scheduler: str | None = None,
    resume: Switch = False,
    any_worker: Switch = False,
    set_: Overrides = (),
    plan: Path | None = None,
    timeline: Path | None = None,
    example: Switch = False,
) -> int:
    """Train a network as a configuration file says.

    Ctrl-C finishes the updates under way and leaves a checkpoint; --resume goes on from there, to
    the same weights as without the interruption.

    Example:

        znn-dask train --example > config.toml
        znn-dask train config.toml --set training.seed=1

    Parameters
    ----------
    config
        The configuration, a TOML file.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...); a cluster in this process when not
        given.
    resume
        Go on from the latest checkpoint in the configuration's folder.
    any_worker
        Use workers with other libraries too; the result then depends on which worker computed what.
    set_
        Override a key, as section.key=value; may be given several times.
    plan
        A plan file of `znn-dask tune`: how each convolution is computed (execution.plan).
    timeline
        Draw the jobs of a few of the last updates, thread by thread, into this .svg, .html or
        .png file.
    example
        Print a configuration that explains every key.
    """
    from znn_dask.report.schedule import check_format
    from znn_dask.training.config import example_config, load_config

    if example:
        print(example_config(), end="")
        return 0
    if config is None:
        raise ValueError("no configuration given; `znn-dask train --example` prints one")
    if any_worker:
        set_ = (*set_, "execution.any_worker=true")
    if plan is not None:
        set_ = (*set_, f"execution.plan={json.dumps(str(plan.absolute()))}")
    settings = load_config(config, set_)
    if timeline is not None:
        check_format(timeline)

    from znn_dask.cli.timeline import draw_timeline
    from znn_dask.cluster.local import local_cluster
    from znn_dask.dashboard.link import page_link
    from znn_dask.training.from_config import finished, save_curve, trainer_from_config

    folder, updates = settings.training.folder, settings.training.updates
    client = connect(scheduler) if scheduler else local_cluster(settings.execution.threads or None)
    try:
        trainer = trainer_from_config(settings, client, resume)
        if finished(trainer, settings):
            say(f"nothing to do: {trainer.step} of {updates} updates are made already")
            return 0
        say(f"dashboard: {page_link(client)}")
        trainer.fit(updates)
        if timeline is not None:
            draw_timeline(client, trainer, timeline)
            say(f"timeline drawn in {timeline}")
        say(f"learning curve: {save_curve(trainer, folder)}")
    finally:
        client.close()
    if not finished(trainer, settings):
        say(f"checkpoint: {trainer.checkpoint}; --resume goes on from it")
        return INTERRUPTED
    say(f"checkpoint: {trainer.checkpoint}")
    say(f"next: znn-dask predict {folder} volume.zarr/image map.zarr")
    return 0
