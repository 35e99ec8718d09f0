"""The structures and the functions of TensorFlow's C API that are used here.

Source: tensorflow/c/c_api.h, tf_tensor.h, tf_tstring.h, tf_status.h.
"""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Self

__all__ = ["DEALLOCATOR", "PROTOTYPES", "Buffer", "Output"]


class Output(Structure):
    """`TF_Output`: one output of an operation in a graph."""

    _fields_ = (("oper", c_void_p), ("index", c_int))


class Buffer(Structure):
    """The fields of a `TF_Buffer`: a serialized message from or for the library."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))
    owner: bytes
    """The memory, if Python owns it."""

    @classmethod
    def holding(cls, serialized: bytes) -> Self:
        """A message for the library, which only reads it; Python owns the memory."""
        buffer = cls(ctypes.cast(c_char_p(serialized), c_void_p), len(serialized))
        buffer.owner = serialized
        return buffer


DEALLOCATOR = CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)
_BUFFER = POINTER(Buffer)
_DIMS = POINTER(c_int64), c_int
_POINTERS = POINTER(c_void_p), c_int
_STRINGS = POINTER(c_char_p), c_int
_VALUES = POINTER(Output), POINTER(c_void_p), c_int
PROTOTYPES = {
    "TF_Version": (c_char_p, ()),
    "TF_NewStatus": (c_void_p, ()),
    "TF_DeleteStatus": (None, (c_void_p,)),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (c_char_p, (c_void_p,)),
    "TF_NewBuffer": (_BUFFER, ()),
    "TF_DeleteBuffer": (None, (_BUFFER,)),
    "TF_LoadLibrary": (c_void_p, (c_char_p, c_void_p)),
    "TF_DeleteLibraryHandle": (None, (c_void_p,)),
    "TF_GetAllOpList": (_BUFFER, ()),
    "TF_AllocateTensor": (c_void_p, (c_int, *_DIMS, c_size_t)),
    "TF_NewTensor": (c_void_p, (c_int, *_DIMS, c_void_p, c_size_t, DEALLOCATOR, c_void_p)),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorType": (c_int, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
    "TF_TensorByteSize": (c_size_t, (c_void_p,)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_StringCopy": (None, (c_void_p, c_char_p, c_size_t)),
    "TF_StringDealloc": (None, (c_void_p,)),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,)),
    "TF_StringGetSize": (c_size_t, (c_void_p,)),
    "TF_NewGraph": (c_void_p, ()),
    "TF_DeleteGraph": (None, (c_void_p,)),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "TF_OperationName": (c_char_p, (c_void_p,)),
    "TF_OperationOpType": (c_char_p, (c_void_p,)),
    "TF_OperationNumInputs": (c_int, (c_void_p,)),
    "TF_OperationNumOutputs": (c_int, (c_void_p,)),
    "TF_OperationAllInputs": (None, (c_void_p, POINTER(Output), c_int)),
    "TF_OperationNumControlInputs": (c_int, (c_void_p,)),
    "TF_OperationGetControlInputs": (c_int, (c_void_p, *_POINTERS)),
    "TF_OperationOutputType": (c_int, (Output,)),
    "TF_NewImportGraphDefOptions": (c_void_p, ()),
    "TF_DeleteImportGraphDefOptions": (None, (c_void_p,)),
    "TF_ImportGraphDefOptionsSetPrefix": (None, (c_void_p, c_char_p)),
    "TF_ImportGraphDefOptionsAddInputMapping": (None, (c_void_p, c_char_p, c_int, Output)),
    "TF_GraphToGraphDef": (None, (c_void_p, _BUFFER, c_void_p)),
    "TF_GraphImportGraphDef": (None, (c_void_p, _BUFFER, c_void_p, c_void_p)),
    "TF_NewOperation": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "TF_AddInput": (None, (c_void_p, Output)),
    "TF_FinishOperation": (c_void_p, (c_void_p, c_void_p)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (c_void_p, c_void_p, c_char_p, *_STRINGS, c_void_p, _BUFFER, c_void_p),
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteSession": (None, (c_void_p, c_void_p)),
    "TF_SessionRun": (
        None,
        (c_void_p, _BUFFER, *_VALUES, *_VALUES, *_POINTERS, c_void_p, c_void_p),
    ),
}
"""For each function, the type of its result and those of its arguments."""
