"""The order in which the gradients of a batch are added: one binary tree over the patches.

    patch   0   1   2   3   4
    level 1 └─+─┘   └─+─┘   │        node (level, index): patches index * 2^level and the next ones
    level 2   └───+───┘     │
    level 3       └────+────┘

The tree depends on the number of patches alone. Where its nodes are computed, and how many in one
go, is a matter of time only: any worker that adds in this order gets the same bits.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

Node = tuple[int, int]
Order: TypeAlias = "int | tuple[Order, Order]"
"""Operands by number, nested as they are added: `((0, 1), 2)`."""

T = TypeVar("T")


def root(patches: int) -> Node:
    """The node that is the sum of all patches."""
    return (patches - 1).bit_length(), 0


def patches_of(node: Node, patches: int) -> range:
    """The patches that a node sums."""
    level, index = node
    return range(index << level, min(index + 1 << level, patches))


def sides(node: Node, patches: int) -> tuple[Node, Node]:
    """The two nodes that are added to make this one, of at least two patches."""
    level, index = node
    while True:
        level, index = level - 1, 2 * index
        if index + 1 << level < patches:  # else the left side is alone: it is passed on as it is
            return (level, index), (level, index + 1)


def local_nodes(node: Node, places: Sequence[int]) -> list[Node]:
    """The largest nodes below `node` whose patches are all in one place, in order."""
    if len({places[p] for p in patches_of(node, len(places))}) == 1:
        return [node]
    return [n for side in sides(node, len(places)) for n in local_nodes(side, places)]


def operands(node: Node, depth: int, stops: Callable[[Node], bool], patches: int) -> list[Node]:
    """The nodes at most `depth` additions below `node`; none below one that `stops`."""
    if depth == 0 or stops(node):
        return [node]
    return [n for s in sides(node, patches) for n in operands(s, depth - 1, stops, patches)]


def order_of(node: Node, given: Sequence[Node], patches: int) -> Order:
    """How `given` nodes are added to make `node`."""
    if node in given:
        return given.index(node)
    left, right = sides(node, patches)
    return order_of(left, given, patches), order_of(right, given, patches)


def add_up(order: Order, given: Sequence[T], add: Callable[[T, T], T]) -> T:
    """The sum of `given` in this order."""
    if isinstance(order, int):
        return given[order]
    left, right = order
    return add(add_up(left, given, add), add_up(right, given, add))


class RunningSum(Generic[T]):
    """Adds patches 0, 1, 2, ... of a node as they come, in the tree's order.

    It holds one sum per level at most, whatever the number of patches.
    """

    def __init__(self, add: Callable[[T, T], T]) -> None:
        self._add = add
        self._sums: list[tuple[int, T]] = []

    def append(self, value: T) -> None:
        """The next patch."""
        level = 0
        while self._sums and self._sums[-1][0] == level:
            value = self._add(self._sums.pop()[1], value)
            level += 1
        self._sums.append((level, value))

    def total(self) -> T:
        """The sum of all patches so far; the last ones, without partners, are passed up."""
        _, value = self._sums.pop()
        while self._sums:
            value = self._add(self._sums.pop()[1], value)
        return value
