"""TensorFlow Serving's API on AWS Lambda and as a long-lived server.

In notebooks and programs, `lambda_serving.load(path)` loads a SavedModel as a `Servable`. The
command line is `lambda-serving`.
"""

TYPE_CHECKING = False  # as type checkers take it; importing `typing` would delay every start
if TYPE_CHECKING:
    from lambda_serving.servables.saved_model import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Imports `load` on first use, so that importing this package does not import numpy."""
    if name == "load":
        from lambda_serving.servables.saved_model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
