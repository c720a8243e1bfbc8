"""`certificates`: what a cluster on several machines needs to let in only its own."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from znn_dask.cli.errors import say

Hosts = Annotated[
    tuple[str, ...], Parameter(negative=(), show_default=False, consume_multiple=True)
]


def certificates(
    folder: Path,
    /,
    *,
    hosts: Hosts = (),
    days: int = 365,
    at: Path | None = None,
) -> None:
    """Make certificates for a cluster, and the Dask configuration that uses them.

    FOLDER gets an authority (ca.pem, ca-key.pem), one certificate for all nodes (node.pem,
    node-key.pem) and tls.yaml. Copy it to every machine of the cluster and to yours; ca-key.pem may
    stay behind. Run it again in the same folder when the node certificate nears its end.

    Example:

        znn-dask certificates cluster
        DASK_CONFIG=cluster dask scheduler

    Parameters
    ----------
    folder
        Where they go. A folder that has an authority keeps it.
    hosts
        Host names and addresses to write into the certificate, for browsers; Dask reads none.
    days
        How long the node certificate holds.
    at
        Where the folder will be on the machines, if elsewhere; tls.yaml names the files there.
    """
    from znn_dask.cluster.certificates import make_certificates

    configuration = make_certificates(folder, hosts, days=days, at=at)
    print(configuration.read_text(encoding="utf-8"), end="")
    say(f"certificates in {folder}, for {days} days; use them with DASK_CONFIG={at or folder}")
