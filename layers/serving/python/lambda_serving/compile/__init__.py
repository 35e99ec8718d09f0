"""Makes a SavedModel quick to start: freezes it, optimises it ahead, maps its weights.

`compiler.compile_saved_model` does this and checks the result. `freezer_process` is a program that
runs in its own process, the only one here that imports Python TensorFlow; `compiled_graph` has its
steps. The functions that change graphs accept TensorFlow's protobuf classes and ours.
"""

__all__ = ["NotCompilable"]


class NotCompilable(Exception):
    """The model is served as exported; the message says why.

    `details` holds TensorFlow's own output, if it failed.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details
