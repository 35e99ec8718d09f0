"""The temporary folders of what servers fetch from buckets, so named that one can clear up."""

import shutil
import tempfile
from pathlib import Path

__all__ = ["prefix", "remove_left"]


def prefix(process: int) -> str:
    """How the names of that process's folders begin."""
    return f"lambda-serving-{process}-"


def remove_left(process: int) -> None:
    """Removes the folders that a process which has ended could not remove itself."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix(process)}*"):
        shutil.rmtree(folder, ignore_errors=True)
