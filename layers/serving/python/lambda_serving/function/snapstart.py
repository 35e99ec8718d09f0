"""Random numbers that differ between environments restored from the same SnapStart snapshot.

The kernel's random numbers (`os.urandom`, `secrets`, `uuid.uuid4`, request ids) differ anyway, as
its generator is reseeded (Lambda developer guide, "Handling uniqueness with Lambda SnapStart").
Generators in memory continue from the snapshot: those of Python and numpy are reseeded here.
TensorFlow's C API cannot reseed its own, and a new session would lose the variables.
"""

import random
import sys

from snapshot_restore_py import register_after_restore

__all__ = ["renew_after_restore"]


def renew_after_restore() -> None:
    """Reseeds the random number generators in each restored environment."""
    register_after_restore(_renew)


def _renew() -> None:
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
