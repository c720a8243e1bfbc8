"""A tour in about two minutes: volume, training, prediction, objects, scores, report page."""

from znn_dask.demo.run import run_demo

__all__ = ["run_demo"]
