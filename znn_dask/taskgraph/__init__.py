"""The heart: plan -> typed tasks -> ZNN's schedule -> granules -> Dask graph; and the engine."""

from znn_dask.taskgraph.arithmetic import Arithmetic, PlanError
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.forward import ForwardPass
from znn_dask.taskgraph.plan import Plan, plan

__all__ = ["Arithmetic", "ForwardPass", "Plan", "PlanError", "choose_arithmetic", "plan"]
