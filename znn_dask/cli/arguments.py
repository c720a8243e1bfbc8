"""Types of command line arguments, and the networks that they name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from distributed import Client

    from znn_dask.network import Network
    from znn_dask.taskgraph.arithmetic import Method


def parse_size(text: str) -> tuple[int, int, int]:
    """`"16,64,64"` -> (16, 64, 64); raises ValueError for anything but three positive integers."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{text!r} is not three positive integers z,y,x, such as 16,64,64")
    z, y, x = (int(part) for part in parts)
    return z, y, x


def parse_lengths(text: str) -> tuple[float, float, float]:
    """`"30,4.5,4.5"` -> (30.0, 4.5, 4.5); raises ValueError for anything else."""
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not three lengths z,y,x in nm, such as 30,8,8") from None
    return z, y, x


def parse_bytes(text: str) -> int:
    """`"8GB"` -> 8000000000; raises ValueError for what is no amount of memory."""
    from dask.utils import parse_bytes as parse

    try:
        size = int(parse(text))
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(f"{text!r} is no amount of memory; write it as 8GB or 8GiB")
    return size


def _converted(parse: Any) -> Any:
    def convert(type_: Any, tokens: Sequence[Any]) -> Any:
        return parse(tokens[0].value)

    return convert


def _zyx(parse: Any) -> Parameter:
    """Three numbers in one word, such as 16,16,16."""
    return Parameter(
        converter=_converted(parse),
        n_tokens=1,
        accepts_keys=False,
        negative=(),
        metavar="Z,Y,X",
    )


Size = Annotated[tuple[int, int, int], _zyx(parse_size)]
Lengths = Annotated[tuple[float, float, float], _zyx(parse_lengths)]
Memory = Annotated[int, Parameter(converter=_converted(parse_bytes), n_tokens=1, metavar="BYTES")]
Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
Methods = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative=(), show_default=False, metavar="LAYER=METHOD"),
]
Region = Annotated[str | None, Parameter(metavar="Z:Z,Y:Y,X:X")]


def open_network(name: str) -> "Network":
    """The network that `name` means: a .znn file, a ZNN .h5 file, a checkpoint, or a zoo name.

    Raises NetworkError, CheckpointError or ValueError when there is none.
    """
    from znn_dask.network import NetworkError, parse_znn, read_znn, zoo

    path = Path(name)
    if path.is_dir() or "://" in name:
        from znn_dask.training.checkpoint import load_checkpoint

        return parse_znn(load_checkpoint(name).network)
    if path.suffix in (".h5", ".hdf5") and path.is_file():
        from znn_dask.interop.znn_h5 import read_znn_h5

        return read_znn_h5(path).network
    if path.is_file():
        return read_znn(path)
    if name in zoo.NETWORKS:
        return zoo.by_name(name)
    raise NetworkError(
        f"no network {name!r}: it is no file, no checkpoint and not in the zoo, which has "
        f"{', '.join(zoo.NETWORKS)}"
    )


def parse_methods(texts: Sequence[str]) -> "dict[str, Method]":
    """`["conv3=tiled:12,12,12"]` -> methods by layer; raises ValueError for anything else."""
    from znn_dask.taskgraph.arithmetic import Method

    methods = {}
    for text in texts:
        layer, equals, method = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r} is not LAYER=METHOD, such as conv3=tiled:12,12,12")
        methods[layer] = Method.parse(method)
    return methods


def connect(scheduler: str) -> "Client":
    """A client of the scheduler at that address, with the certificates of Dask's configuration.

    Warns (`ClusterWarning`) when others could listen in. Raises SecurityError when certificates are
    missing, OSError when it does not answer or does not take them.
    """
    import warnings

    import dask
    from distributed import Client

    from znn_dask.cluster.checks import ClusterWarning
    from znn_dask.cluster.local import SETTINGS
    from znn_dask.cluster.security import check_connecting, open_to_strangers, why_refused

    check_connecting(scheduler)
    client = Client.__new__(Client)  # so that it can be closed when its constructor fails
    try:
        with dask.config.set(SETTINGS):  # by default a client keeps its last thousand messages
            client.__init__(scheduler, timeout=20)
    except (OSError, RuntimeError, ValueError) as error:
        # Left to the garbage collector, it closes in any thread, also in one that Dask waits for.
        client.close()
        refused = why_refused(scheduler, error)
        if refused:
            raise OSError(f"no connection to the scheduler at {scheduler}: {refused}") from error
        if not isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split())
        raise OSError(
            f"no Dask scheduler answers at {scheduler}: {reason}; start one with `dask scheduler`"
        ) from error
    if open_to_strangers(scheduler):
        warnings.warn(
            f"{scheduler} is not encrypted: whoever reaches it can run code there and read your "
            "data; use TLS (deploy/README.md)",
            ClusterWarning,
            stacklevel=2,
        )
    return client
