"""JSON and arrays: the bodies of predict, classify and regress, as TensorFlow Serving has them.

The wire format, specified here and nowhere else:

    predict   {"signature_name": text, "instances": [value, ...]}   row
              {"signature_name": text, "inputs": value}             columnar
    classify, {"signature_name": text, "context": example, "examples": [example, ...]}
    regress

`signature_name` and `context` are optional; other members are ignored.

Row: each instance is a value of the only input, or an object with a value for every input and
nothing else. All values of an input have the same shape; they are stacked. The answer is
`{"predictions": [...]}`, with a value of the only output or an object of all outputs for each.

Columnar: a value of the only input, or an object with a value for every input and perhaps more.
The answer is `{"outputs": ...}`, a value of the only output or an object of all outputs.

A value is a scalar or nested lists of scalars, regular like an array. A scalar is

    float, double, half, bfloat16       a number; one that is too large becomes infinite; `NaN` and
                                        `Infinity` are bare tokens, as in Python's json
    int8 to int32, uint8, uint16        an integer of 32 bits, wrapped into the smaller types
    int64, uint32, uint64               an integer in the range of the type, not `1.0`
    bool                                `true` or `false`
    string                              a string, or `{"b64": text}` for any bytes; in answers, the
                                        latter if the name of the output ends in `_bytes`

Other dtypes are refused. Shapes are not compared with the signature.

An example is an object of features: a scalar or a list of scalars of one kind. Strings and
`{"b64": text}` make a list of bytes, integers and booleans of int64, other numbers of float. The
answer is `{"results": [...]}`: `[[label, score], ...]` or a number for each example.

Files of rows have an instance on each line, and a prediction on each line of their answers.

The JSON of requests is rapidjson's dialect (`rapidjson_dialect`). Answers are compact, with the
fewest digits that read back to the same value.
"""

from lambda_serving.api.codec.example_request import ExamplesRequest, parse_examples
from lambda_serving.api.codec.freeing_json import Growth
from lambda_serving.api.codec.gc_pause import Collector
from lambda_serving.api.codec.json_reader import LARGE, Limits
from lambda_serving.api.codec.json_writer import (
    encode,
    encode_classifications,
    encode_regressions,
    encode_rows,
)
from lambda_serving.api.codec.predict_request import (
    Document,
    Format,
    decode,
    decode_row,
    decode_rows,
    parse,
)

__all__ = [
    "LARGE",
    "Collector",
    "Document",
    "ExamplesRequest",
    "Format",
    "Growth",
    "Limits",
    "decode",
    "decode_row",
    "decode_rows",
    "encode",
    "encode_classifications",
    "encode_regressions",
    "encode_rows",
    "parse",
    "parse_examples",
]
