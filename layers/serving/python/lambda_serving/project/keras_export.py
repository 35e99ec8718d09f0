"""Exports a model that Keras saved: `python -m lambda_serving.project.keras_export FILE FOLDER`.

Ends with 1 if that fails; the last line on stderr then says why.
"""

import sys

from lambda_serving.installation import broken

__all__ = ["main"]


def main(file: str, folder: str) -> None:
    """Loads the model without its training configuration, and writes the SavedModel."""
    import keras

    model = keras.models.load_model(file, compile=False)
    model.export(folder, verbose=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ImportError as error:
        sys.exit(f"\n{broken(error)}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        sys.exit(f"\n{type(error).__name__}: {' '.join(str(error).split())}")
