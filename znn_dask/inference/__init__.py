"""Block-wise prediction of whole volumes."""

from znn_dask.inference.blocks import BlockPlan, PredictionError
from znn_dask.inference.predict import PredictionStatus, predict, prediction_status

__all__ = ["BlockPlan", "PredictionError", "PredictionStatus", "predict", "prediction_status"]
