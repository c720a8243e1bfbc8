"""What lives in this process: engines, tallies of what they ran, and holders of spectra.

Whoever watches from outside finds them here, once a second or so. Those who work only enter
themselves when they begin, and pay nothing for being watched.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import numpy as np

T = TypeVar("T")


class Living(Generic[T]):
    """Objects that somebody else holds: being listed here keeps none alive.

    Any thread may add while another one looks.
    """

    def __init__(self) -> None:
        self._found: WeakValueDictionary[int, T] = WeakValueDictionary()

    def add(self, thing: T) -> None:
        """Enter `thing`; it leaves when nobody holds it any more."""
        self._found[id(thing)] = thing

    def __iter__(self) -> Iterator[T]:
        for reference in self._found.valuerefs():
            if (thing := reference()) is not None:
                yield thing


ENGINES: Living[Any] = Living()
TALLIES: Living[Any] = Living()
STATES: Living[Any] = Living()
TAPES: Living[Any] = Living()


def spectra_bytes() -> dict[str, int]:
    """Bytes of the spectra that are kept in this process now.

    `"kernels"`: of kernels, for the passes to come; `"inputs"`: of input maps, for the gradients of
    kernels; `"gradients"`: of gradients of output maps.
    """
    return {
        "kernels": sum(_bytes(state.spectra) for state in STATES),
        "inputs": sum(_bytes(tape.spectra) for tape in TAPES),
        "gradients": sum(_bytes(tape.gradient_spectra) for tape in TAPES),
    }


def _bytes(arrays: Mapping[Any, np.ndarray]) -> int:
    # Copied in one go: threads of the engine add and drop arrays meanwhile.
    return sum(array.nbytes for array in tuple(arrays.values()))
