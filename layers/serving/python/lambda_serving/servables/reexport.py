"""Makes an export that the graph can restore: `python -m` this module SRC DST LIBRARIES TAG...

`tf.saved_model.save` of a Keras 3 model exports each variable twice: the checkpoint fills one, the
graph reads the other. Restoring the object graph and saving again leaves each variable once, and
signatures, assets and tables as they were.
"""

import sys

from lambda_serving.installation import broken

__all__ = ["reexport"]


def reexport(source: str, destination: str, libraries: str, tags: list[str]) -> None:
    """Writes the SavedModel `source`, loaded by its object graph, to `destination`.

    `libraries` are those of its custom ops, separated by commas.
    """
    import tensorflow as tf

    for library in filter(None, libraries.split(",")):
        tf.load_op_library(library)
    loaded = tf.saved_model.load(source, tags=tags)
    tf.saved_model.save(loaded, destination, signatures=dict(loaded.signatures))


if __name__ == "__main__":
    try:
        reexport(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    except ImportError as error:
        sys.exit(str(broken(error)))
