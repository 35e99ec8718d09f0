"""JSON and arrays: the bodies of predict, classify and regress, as TensorFlow Serving has them.

The wire format, specified here and nowhere else:

    predict   {"signature_name": text, "instances": [value, ...]}   row
              {"signature_name": text, "inputs": value}             columnar
    classify, {"signature_name": text, "context": example, "examples": [example, ...]}
    regress

`signature_name` and `context` may be left out, other members are ignored.

Row: each of the instances is a value of the only input, or an object with a value for every input
and nothing else. Values of one input have one shape; they are stacked. The answer is
`{"predictions": [...]}`, its elements values of the only output or objects of all.

Columnar: a value of the only input, or an object with a value for every input and perhaps more.
The answer is `{"outputs": ...}`, a value of the only output or an object of all.

A value is a scalar or nested lists of scalars, regular like an array. A scalar is

    float, double, half, bfloat16       a number; too large is infinite, `NaN` and `Infinity` are
                                        bare tokens in and out (as they are in Python's json)
    int8 to int32, uint8, uint16        an integer in int32, wrapped into the smaller types
    int64, uint32, uint64               an integer in the range of the type, `1.0` is none
    bool                                `true` or `false`
    string                              a string, or `{"b64": text}` for any bytes; in answers the
                                        latter where the name of the output ends in `_bytes`

Other dtypes are refused. Shapes are not compared with the signature.

An example is an object of features: a scalar or a list of scalars of one kind. Strings and
`{"b64": text}` make a list of bytes, integers and booleans of int64, other numbers of float. The
answer is `{"results": [...]}`: `[[label, score], ...]` or a number for each example.

Files of rows have one of `instances` a line, and one of `predictions` a line for it.

The JSON of requests is rapidjson's dialect (`json_text`). Answers are compact, with the fewest
digits that read back to the same value.
"""

from lambda_serving.api.codec.example_request import ExamplesRequest, parse_examples
from lambda_serving.api.codec.gc_pause import Collector
from lambda_serving.api.codec.json_reader import Limits
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
    "Collector",
    "Document",
    "ExamplesRequest",
    "Format",
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
