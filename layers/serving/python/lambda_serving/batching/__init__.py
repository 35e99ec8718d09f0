"""Joins requests of one signature along the first dimension, for the long-lived server.

Source: batching/batching_session.cc and TensorFlow's batching_util/shared_batch_scheduler.h.
"""

from lambda_serving.batching.batched_function import Report
from lambda_serving.batching.batcher import Batcher
from lambda_serving.batching.parameters import BatchingParameters, read

__all__ = ["Batcher", "BatchingParameters", "Report", "read"]
