"""Benchmark of a network: seconds per update through Dask and without, per forward pass; memory."""

from znn_dask.bench.measure import measure, table

__all__ = ["measure", "table"]
