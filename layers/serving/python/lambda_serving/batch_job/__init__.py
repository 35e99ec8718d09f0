"""Predicts files of rows: what `lambda-serving batch` does."""

from lambda_serving.batch_job.readers import RowFormat
from lambda_serving.batch_job.receipts import digest
from lambda_serving.batch_job.run import Done, Job, TooManyBadRows, run, shard_of

__all__ = ["Done", "Job", "RowFormat", "TooManyBadRows", "digest", "run", "shard_of"]
