"""Node groups and edge groups: the words in which a network is written.

A node group is a set of maps of equal size (channels); an edge group joins two node groups by one
operation. Both are plain immutable values; `Network` gives them meaning together.
"""

from dataclasses import dataclass
from typing import Final

Triple = tuple[int, int, int]

ONE: Final[Triple] = (1, 1, 1)
ZERO: Final[Triple] = (0, 0, 0)

NODE_TYPES: Final = ("input", "sum", "transfer", "maxout")
EDGE_TYPES: Final = ("conv", "max_filter", "max_pool", "dropout", "crop", "maxout", "dummy")
FUNCTIONS: Final = (
    "linear",
    "rectify_linear",
    "tanh",
    "soft_sign",
    "logistics",
    "forward_logistics",
)
FAN_INITIALISATIONS: Final = ("xavier", "msra")
INITIALISATIONS: Final = (
    "zero",
    "constant",
    "uniform",
    "gaussian",
    "bernoulli",
    *FAN_INITIALISATIONS,
)
DEFAULT_ARGUMENTS: Final[dict[str, tuple[float, ...]]] = {"linear": (1.0, 0.0), "tanh": (1.0, 1.0)}


class NetworkError(ValueError):
    """The network, or the size asked of it, is impossible; the message says what to change."""


@dataclass(frozen=True)
class NodeGroup:
    """A group of `size` maps of equal shape.

    The contributions of all edge groups that enter are summed (a `maxout` group takes their
    maximum). A `transfer` group then adds one bias per map and applies `function`; `init` and
    `init_args` give the first biases (zero when absent). `dense` resets the dilation of what
    follows to 1. `options` keeps every other key of a .znn file, verbatim.
    """

    name: str
    type: str
    size: int
    function: str = "linear"
    function_args: tuple[float, ...] = ()
    init: str | None = None
    init_args: tuple[float, ...] = ()
    dense: bool = False
    options: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> tuple[float, ...]:
        """Arguments of `function` with its defaults filled in.

        linear (a, b): a*x + b, default (1, 0); tanh (a, b): a*tanh(b*x), default (1, 1); the other
        functions have none.
        """
        defaults = DEFAULT_ARGUMENTS.get(self.function, ())
        return tuple(self.function_args[: len(defaults)]) + defaults[len(self.function_args) :]

    @property
    def has_biases(self) -> bool:
        """Whether the group has one trainable bias per map."""
        return self.type == "transfer"


@dataclass(frozen=True)
class EdgeGroup:
    """One operation from node group `input` to node group `output`; all triples are z, y, x.

    `type` is one of:

    * conv: every input map to every output map
    * max_filter: dense running maximum
    * max_pool: maximum of blocks of `size`
    * dropout: keeps a voxel with probability `ratio`
    * crop: removes `offset` voxels from both ends of each axis
    * maxout: one candidate of a maxout node group
    * dummy: identity

    `size` is that of the window. `stride` of conv and max_filter multiplies the dilation of
    everything after (skip kernels). First filters come from `init` and `init_args`; `repeat` ties
    blocks of kernel elements. `fft` is kept from the file and decides nothing: plans do. `options`
    keeps every other key of a .znn file, verbatim.
    """

    name: str
    type: str
    input: str
    output: str
    size: Triple = ONE
    stride: Triple = ONE
    init: str | None = None
    init_args: tuple[float, ...] = ()
    ratio: float = 0.5
    offset: Triple = ZERO
    repeat: Triple = ONE
    fft: bool | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def slides(self) -> bool:
        """Whether a dilated window slides over the map (conv, max_filter)."""
        return self.type in ("conv", "max_filter")
