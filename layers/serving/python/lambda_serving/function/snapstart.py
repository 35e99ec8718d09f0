"""What must not be alike in the environments that Lambda restores from one snapshot.

Numbers of the kernel (`os.urandom`, `secrets`, `uuid.uuid4`, ids of requests) differ by themselves,
as the kernel's generator is seeded anew (Lambda developer guide, "Handling uniqueness with Lambda
SnapStart"). Generators in memory go on from where the snapshot was taken: those of Python and of
numpy are seeded here. TensorFlow's cannot be: its C API has nothing for it, and a new session would
have none of the variables.
"""

import random
import sys

from snapshot_restore_py import register_after_restore

__all__ = ["renew_after_restore"]


def renew_after_restore() -> None:
    """Has the generators of random numbers seeded in each environment that is restored."""
    register_after_restore(_renew)


def _renew() -> None:
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
