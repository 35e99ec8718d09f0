"""The peer as a function: its application behind Mangum, as a competent user writes it."""

from mangum import Mangum

from benchmarks.peer import app

__all__ = ["handler"]

handler = Mangum(app, lifespan="off")
