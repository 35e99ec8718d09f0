"""Classes of TensorFlow's and TensorFlow Serving's protocol messages, without importing either.

They are built from the descriptors in `messages.binpb` (written by `make protos`), in a pool of
their own so that a process can import `tensorflow` as well.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["message"]


@cache
def message(name: str) -> Any:
    """The class of a message by its full name, e.g. `tensorflow.MetaGraphDef`.

    Classes are typed `Any`: their fields exist only at run time. Raises KeyError for a name that
    is not among the descriptors.
    """
    from google.protobuf.message_factory import GetMessageClass  # the first message pays

    return GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> "DescriptorPool":
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    descriptors = Path(__file__).with_name("messages.binpb").read_bytes()
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool
