"""Operations of a graph and their outputs, by name."""

from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.servables.tensorflow_c.prototypes import Output

__all__ = ["operation_of", "output_of"]


def output_of(graph: int, tensor_name: str) -> Output:
    """The output that a tensor's name, `operation:index`, stands for.

    Raises InvalidArgument for a name that is not in the graph.
    """
    lib = library()
    operation, _, index = tensor_name.partition(":")
    pointer = lib.TF_GraphOperationByName(graph, operation.encode())
    if not pointer or not (index or "0").isdecimal():
        raise InvalidArgument(f"Tensor {tensor_name} is not in the graph")
    if (number := int(index or 0)) >= lib.TF_OperationNumOutputs(pointer):
        raise InvalidArgument(f"Tensor {tensor_name} is not in the graph")
    return Output(pointer, number)


def operation_of(graph: int, name: str) -> int:
    """The operation called `name`; raises InvalidArgument if the graph has none."""
    pointer: int | None = library().TF_GraphOperationByName(graph, name.encode())
    if not pointer:
        raise InvalidArgument(f"Operation {name} is not in the graph")
    return pointer
