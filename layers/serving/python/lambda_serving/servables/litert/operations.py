"""Which operations a `.tflite` file uses, and what follows from that for those who run it."""

import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

from lambda_serving.servables.litert.flatbuffer import Table, Tables

__all__ = ["Operations"]

_ASSIGN_VARIABLE = 144
_RECURRENT = frozenset((16, 24, 27, 35, 44, 46, 52))
_DIVISIONS = {42: "DIV", 90: "FLOOR_DIV", 95: "FLOOR_MOD", 164: "DIVIDE", 185: "REMAINDER"}
_WIDE_INTEGERS = {2: "i", 4: "q"}
"""The types int32 and int64, as formats of `struct`; smaller ones are divided as int32."""
_FOLLOWING_SHAPES = """
ADD=0 AVERAGE_POOL_2D=1 CONCATENATION=2 CONV_2D=3 DEPTHWISE_CONV_2D=4 DEPTH_TO_SPACE=5
DEQUANTIZE=6 FLOOR=8 FULLY_CONNECTED=9 L2_NORMALIZATION=11 LOGISTIC=14 MAX_POOL_2D=17 MUL=18
RELU=19 RELU_N1_TO_1=20 RELU6=21 RESHAPE=22 SOFTMAX=25 SPACE_TO_DEPTH=26 TANH=28 GATHER=36
TRANSPOSE=39 MEAN=40 SUB=41 DIV=42 SQUEEZE=43 STRIDED_SLICE=45 EXP=47 SPLIT=49 LOG_SOFTMAX=50
CAST=53 PRELU=54 MAXIMUM=55 ARG_MAX=56 MINIMUM=57 LESS=58 NEG=59 GREATER=61 GREATER_EQUAL=62
LESS_EQUAL=63 SELECT=64 SIN=66 EXPAND_DIMS=70 EQUAL=71 NOT_EQUAL=72 LOG=73
SUM=74 SQRT=75 RSQRT=76 SHAPE=77 ARG_MIN=79 REDUCE_PROD=81 REDUCE_MAX=82 PACK=83 LOGICAL_OR=84
LOGICAL_AND=86 LOGICAL_NOT=87 UNPACK=88 REDUCE_MIN=89 REDUCE_ANY=91 SQUARE=92 ZEROS_LIKE=93
LEAKY_RELU=98 SQUARED_DIFFERENCE=99 ABS=101 SPLIT_V=102 CEIL=104 REVERSE_V2=105 GATHER_ND=107
COS=108 RANK=110 ELU=111 QUANTIZE=114 ROUND=116 HARD_SWISH=117 SELECT_V2=123 BATCH_MATMUL=126
CONV_3D=132 REDUCE_ALL=140 GELU=150 SIGN=158
"""
"""Builtin operations, with their numbers, whose steps are products of their inputs' dimensions."""
_STEADY = frozenset(int(each.partition("=")[2]) for each in _FOLLOWING_SHAPES.split())


class Operations(NamedTuple):
    """What the operations of a file mean for a run.

    `follow_shapes`: its cost depends on the inputs' dimensions only. `keep_state`: it may change
    later answers. `recur`: layers hold a state that must be reset before a run. `division` names an
    operation that ends the process for some values, or is empty: no kernel checks for the smallest
    integer divided by -1.
    """

    follow_shapes: bool
    keep_state: bool
    recur: bool
    division: str

    @classmethod
    def of(cls, model: Table) -> Self:
        """Those of all subgraphs of a `Model`; raises Malformed."""
        codes = [max(each.number(0, "<b"), each.number(3, "<i")) for each in model.tables(1)]
        subgraphs, buffers, used, division = model.tables(2), model.tables(4), set[int](), ""
        for subgraph in subgraphs:
            for operator in subgraph.tables(3):
                number = operator.number(0, "<I")
                code = codes[number] if number < len(codes) else -1
                used.add(code)
                if code in _DIVISIONS and _is_dangerous(operator, subgraph.tables(0), buffers):
                    division = _DIVISIONS[code]
        return cls(
            follow_shapes=used <= _STEADY,
            keep_state=_ASSIGN_VARIABLE in used,
            recur=bool(used & _RECURRENT),
            division=division,
        )


def _is_dangerous(operator: Table, tensors: Tables, buffers: Tables) -> bool:
    """Whether a division of integers has a divisor that may be -1."""
    inputs = operator.numbers(1, "i") or ()
    if len(inputs) != 2:
        return False  # LiteRT refuses it
    divisor = tensors[inputs[1]]
    form = _WIDE_INTEGERS.get(divisor.number(1, "<b"))
    return bool(form) and -1 in _constants(divisor, buffers, str(form))


def _constants(tensor: Table, buffers: Tables, form: str) -> Iterator[int]:
    """The values of a constant tensor; -1 for any other, as it may have that value."""
    data = buffers[tensor.number(2, "<I")].data(0)
    if not data or len(data) % struct.calcsize(form):
        yield -1
    else:
        yield from (value for (value,) in struct.iter_unpack(f"<{form}", data))
