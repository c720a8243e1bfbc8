"""What can be wrong with objects to look at, and with the packages that it takes."""

import importlib
from types import ModuleType


class NeuronError(ValueError):
    """Objects, settings or an output path that no neurons can be made of."""


def extra(package: str) -> ModuleType:
    """A package of the extra `neurons`; raises ImportError, one line, where it is absent."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.replace("_", "-")
        raise ImportError(
            f"this needs the package {name}; run: pip install 'znn-dask[neurons]'"
        ) from error
