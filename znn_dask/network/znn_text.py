"""Reading and writing .znn files.

The grammar: `nodes NAME` or `edges NAME` opens a group; each following line `key value` belongs to
it. Only the first two words of a line count, blank lines are skipped, a repeated key overwrites.
Groups may come in any order. Vectors are z,y,x with commas. Keys that mean nothing to a group of
that type (eta, momentum, the function of a sum, ...) are kept in its `options`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from znn_dask.network.geometry import triple
from znn_dask.network.graph import Network
from znn_dask.network.groups import EdgeGroup, NetworkError, NodeGroup, Triple

T = TypeVar("T")

NODE_KEYS: Final = ("type", "size", "dense")
TRANSFER_KEYS: Final = ("function", "function_args", "init", "init_args")
EDGE_KEYS: Final = ("type", "input", "output")
KEYS_OF_EDGE: Final[dict[str, tuple[str, ...]]] = {
    "conv": ("size", "stride", "init", "init_args", "repeat", "fft"),
    "max_filter": ("size", "stride"),
    "max_pool": ("size", "stride"),
    "dropout": ("ratio",),
    "crop": ("offset",),
}
REQUIRED_OF_EDGE: Final[dict[str, tuple[str, ...]]] = {
    "conv": ("size",),
    "max_filter": ("size", "stride"),
    "max_pool": ("size",),
    "crop": ("offset",),
}


def node_keys(node_type: str) -> tuple[str, ...]:
    """Keys of a .znn file that have a meaning for a node group of this type."""
    return NODE_KEYS + (TRANSFER_KEYS if node_type == "transfer" else ())


def edge_keys(edge_type: str) -> tuple[str, ...]:
    """Keys of a .znn file that have a meaning for an edge group of this type."""
    return EDGE_KEYS + KEYS_OF_EDGE.get(edge_type, ())


def parse_znn(text: str) -> Network:
    """The network that a .znn text describes.

    Raises NetworkError naming group and line when the text cannot be understood or a required key
    is missing. Whether the network is possible is checked when it is used, or by `validate`.
    """
    groups = _read_groups(text)
    return Network(
        nodes=tuple(_node(group) for group in groups if group.kind == "nodes"),
        edges=tuple(_edge(group) for group in groups if group.kind == "edges"),
    )


def format_znn(net: Network) -> str:
    """The network as .znn text; `parse_znn` of it gives an equal network.

    Raises NetworkError when an option cannot be written.
    """
    return "\n\n".join("\n".join(_group_lines(group)) for group in _reading_order(net)) + "\n"


def read_znn(path: str | os.PathLike[str]) -> Network:
    """The network in a .znn file; NetworkError, naming the file, when it cannot be read."""
    try:
        return parse_znn(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise NetworkError(f"{path}: {error.strerror}; check the path of the network") from None
    except UnicodeDecodeError:
        raise NetworkError(f"{path}: not a text file; give a .znn file") from None
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None


def write_znn(net: Network, path: str | os.PathLike[str]) -> None:
    """Write the network to a .znn file, whole or not at all."""
    text = format_znn(net)
    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


class _Group:
    """One group of a file while it is read: typed access to its keys."""

    def __init__(self, kind: str, name: str, line: int) -> None:
        self.title = f"{kind.removesuffix('s')} group {name!r} (line {line})"
        self.kind, self.name = kind, name
        self.values: dict[str, str] = {}

    def required(self, key: str, convert: Callable[[str], T], form: str = "one word") -> T:
        value = self.values.get(key, "")
        if not value:
            keys = ", ".join(self.values) or "none"
            raise NetworkError(
                f"{self.title}: key {key!r} is missing, its keys are {keys}; add {key!r}"
            )
        try:
            return convert(value)
        except ValueError:
            raise NetworkError(f"{self.title}: {key} is {value!r}; make it {form}") from None

    def get(self, key: str, convert: Callable[[str], T], default: T, form: str) -> T:
        return self.required(key, convert, form) if key in self.values else default

    def numbers(self, key: str) -> tuple[float, ...]:
        return self.get(key, _numbers, (), "numbers with commas between, as in 0.1,2")

    def triple(self, key: str, default: Triple) -> Triple:
        return self.get(key, _triple, default, "three whole numbers z,y,x as in 1,3,3")

    def flag(self, key: str) -> bool | None:
        return self.required(key, _flag, "0 or 1") if key in self.values else None

    def word(self, key: str) -> str | None:
        return self.required(key, str) if key in self.values else None

    def options(self, known: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in self.values.items() if key not in known)


def _read_groups(text: str) -> list[_Group]:
    groups: list[_Group] = []
    for number, line in enumerate(text.splitlines(), 1):
        key, value, *_ = [*line.split(), "", ""]
        if key in ("nodes", "edges"):
            if not value:
                raise NetworkError(f"line {number}: {line.strip()!r} has no name; add one word")
            groups.append(_Group(key, value, number))
        elif key and groups:
            groups[-1].values[key] = value
        elif key:
            raise NetworkError(
                f"line {number}: {line.strip()!r} stands before any group; begin with a line"
                " 'nodes NAME' or 'edges NAME'"
            )
    if not groups:
        raise NetworkError("no 'nodes NAME' or 'edges NAME' in the text; give a .znn network")
    return groups


def _node(group: _Group) -> NodeGroup:
    kind = group.required("type", str)
    node = NodeGroup(
        name=group.name,
        type=kind,
        size=group.required("size", int, "a whole number of channels"),
        dense=bool(group.flag("dense")),
        options=group.options(node_keys(kind)),
    )
    if kind != "transfer":
        return node
    return replace(
        node,
        function=group.required("function", str),
        function_args=group.numbers("function_args"),
        init=group.word("init"),
        init_args=group.numbers("init_args"),
    )


def _edge(group: _Group) -> EdgeGroup:
    kind = group.required("type", str)
    edge = EdgeGroup(
        name=group.name,
        type=kind,
        input=group.required("input", str),
        output=group.required("output", str),
        options=group.options(edge_keys(kind)),
    )
    for key in REQUIRED_OF_EDGE.get(kind, ()):
        group.required(key, str)
    match kind:
        case "conv":
            return replace(
                edge,
                size=group.triple("size", edge.size),
                stride=group.triple("stride", edge.stride),
                init=group.word("init"),
                init_args=group.numbers("init_args"),
                repeat=group.triple("repeat", edge.repeat),
                fft=group.flag("fft"),
            )
        case "max_filter" | "max_pool":
            return replace(
                edge,
                size=group.triple("size", edge.size),
                stride=group.triple("stride", edge.stride),
            )
        case "dropout":
            ratio = group.get("ratio", float, edge.ratio, "a probability such as 0.5")
            return replace(edge, ratio=ratio)
        case "crop":
            return replace(edge, offset=group.triple("offset", edge.offset))
    return edge


def _triple(text: str) -> Triple:
    return triple(map(int, text.split(",")))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _flag(text: str) -> bool:
    return ("0", "1").index(text) == 1


def _reading_order(net: Network) -> Iterator[NodeGroup | EdgeGroup]:
    """Groups as one reads a drawing: each edge after its input, both kinds in their own order."""
    nodes, edges = list(net.nodes), list(net.edges)
    shown: set[str] = set()
    while nodes or edges:
        if edges and (edges[0].input in shown or not nodes):
            yield edges.pop(0)
        else:
            shown.add(nodes[0].name)
            yield nodes.pop(0)


def _group_lines(group: NodeGroup | EdgeGroup) -> Iterator[str]:
    is_node = isinstance(group, NodeGroup)
    keys = node_keys(group.type) if is_node else edge_keys(group.type)
    title = f"{'node' if is_node else 'edge'} group {group.name!r}"
    yield f"{'nodes' if is_node else 'edges'} {group.name}"
    always = ("type", "size", "function", "ratio", "offset", "stride", "input", "output")
    for key in keys:
        value = getattr(group, key)
        if key in always or value != group.__dataclass_fields__[key].default:
            yield f"{key} {_text(value)}"
    for key, value in group.options:
        words = f"{key} {value}".split()
        if words != [key, value] and [*words, ""] != [key, value]:
            raise NetworkError(f"{title}: option {key!r} = {value!r} is not two words; change it")
        if key in (*keys, "nodes", "edges"):
            raise NetworkError(
                f"{title}: option {key!r} = {value!r} has another meaning in a .znn file; rename it"
            )
        yield f"{key} {value}".strip()


def _text(value: object) -> str:
    match value:
        case bool():
            return str(int(value))
        case tuple():
            return ",".join(map(_text, value))
        case float():
            return repr(value).removesuffix(".0")
    return str(value)
