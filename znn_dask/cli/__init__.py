"""The `znn-dask` command."""

from znn_dask.cli.app import main

__all__ = ["main"]
