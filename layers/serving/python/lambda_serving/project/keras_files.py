"""Models in Keras's own formats, exported as SavedModels in a process that has Keras."""

import os
import subprocess
import sys
from pathlib import Path

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.store.other_formats import advice

__all__ = ["export", "is_keras"]

_KERAS = (".keras", ".h5", ".hdf5")
_WEIGHTS = ".weights.h5"
_SHOWN = 600
_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def is_keras(path: str) -> bool:
    """Whether a path has the name of a file that Keras wrote."""
    return path.lower().endswith(_KERAS)


def export(file: Path, folder: Path) -> None:
    """Writes the model in a `.keras` or `.h5` file as a SavedModel into a new folder.

    The model is loaded in Keras's safe mode, which runs no code of the file. Raises NotFound if
    there is no such file, and InvalidArgument if Keras cannot load or export it.
    """
    if not file.is_file():
        raise NotFound(f"{file} does not exist, or is not a file. Correct the path")
    if file.name.lower().endswith(_WEIGHTS):
        raise InvalidArgument(advice(str(file)))
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "lambda_serving.project.keras_export", file, folder],
        env={**os.environ, **_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        said = (ended.stderr.strip() or f"it ended with {ended.returncode}").splitlines()[-1]
        raise InvalidArgument(
            f"Keras cannot export {file}: {said[:_SHOWN]}. Where the code of the model is, call"
            " model.export(FOLDER), and add FOLDER"
        )
