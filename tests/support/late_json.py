"""Bodies that parsers may read slowly: invalid only near the end, or odd throughout."""

from collections.abc import Mapping
from dataclasses import dataclass

from lambda_serving.dtypes import DType

__all__ = ["LATE", "Late"]


@dataclass(frozen=True, slots=True)
class Late:
    """Bodies that repeat an item before something else comes, for inputs of those dtypes.

    `early` says that Python's parser stops before the end: at something that rapidjson reads, or at
    its recursion limit.
    """

    item: str
    end: str
    dtype: DType = DType.FLOAT
    names: str = "x"
    head: str = '{"instances":['
    tail: str = "]}"
    joiner: str = ","
    early: bool = False

    @property
    def inputs(self) -> Mapping[str, DType]:
        return dict.fromkeys(self.names, self.dtype)

    def body(self, size: int) -> bytes:
        """A body of about `size` bytes."""
        count = max(1, size // (len(self.item) + len(self.joiner)))
        text = self.joiner.join([self.item] * count + [self.end])
        return f"{self.head}{text}{self.tail}".encode(errors="surrogateescape")


_INPUTS = '{"inputs":['
_STRING, _INT32 = DType.STRING, DType.INT32

LATE = {
    # other types and shapes
    "list of text": Late("[1]", '["a"]'),
    "list of text, columnar": Late("[1]", '["a"]', head=_INPUTS),
    "float": Late("1", "1.5", _INT32),
    "float, columnar": Late("1", "1.5", _INT32, head=_INPUTS),
    "float in rows": Late("[1,2,3]", "[1,2,1.5]", _INT32),
    "boolean": Late("1.5", "true"),
    "null": Late("1.5", "null"),
    "text": Late("1", '"a"', _INT32),
    "list": Late("1", "[1]", _INT32),
    "object": Late("1", "{}", _INT32),
    "base64 for numbers": Late("1", '{"b64":"YQ=="}', _INT32),
    "ragged": Late("[1,2,3]", "[1,2]"),
    "ragged, columnar": Late("[1,2,3]", "[1,2]", head=_INPUTS),
    "ragged inside": Late("[[1],[2]]", "[[1],[2,3]]"),
    "too deep a list": Late("[1]", "[[1]]"),
    "empty lists": Late("[]", "[1]"),
    "empty objects": Late("{}", "1"),
    "booleans": Late("true", "1", DType.BOOL),
    "booleans for numbers": Late("true", "1"),
    "nulls": Late("null", "1"),
    "texts for numbers": Late('"a"', "1"),
    # numbers
    "over int32": Late("1", "4000000000", _INT32),
    "over int64": Late("1", "9223372036854775808", DType.INT64),
    "over uint64": Late("1", "18446744073709551616", DType.UINT64),
    "below zero": Late("1", "-1", DType.UINT64),
    "infinite as half": Late("65520.5", '"a"', DType.HALF),
    "over a double": Late("1.5", "1e999"),
    "large numbers": Late("1e300", "1e999"),
    "long integers": Late("1234567890123456789", '"a"', DType.INT64),
    "integers over 64 bits": Late("18446744073709551616", "1e999"),
    "NaN": Late("NaN", '"a"'),
    "rows of NaN": Late("[NaN]", '["a"]'),
    "-NaN": Late("-NaN", '"a"'),
    "Inf": Late("Inf", '"a"'),
    "Infinity": Late("Infinity", '"a"'),
    # strings
    "short strings": Late('"a"', "1", _STRING),
    "empty strings": Late('""', "1", _STRING),
    "strings with colons": Late('"a:c"', "1", _STRING),
    "long strings": Late('"' + "x" * 1000 + '"', "1", _STRING),
    "not ASCII": Late('"é"', "1", _STRING),
    "escapes": Late(r'"\n"', "1", _STRING),
    "escaped characters": Late(r'"\u00e9"', "1", _STRING),
    "escaped colons": Late(r'{"x":"\u003a"}', "1", _STRING),
    "pairs": Late(r'"\ud83d\ude00"', "1", _STRING),
    "half pairs": Late(r'"\udc80"', "1", _STRING),
    "half pairs, then the other half": Late(r'"\udc80"', r'"\ud800"', _STRING),
    "not UTF-8": Late('"\udce9"', "1", _STRING),
    "control character": Late('"a"', '"\n"', _STRING),
    "no escape": Late('"a"', r'"\x"', _STRING),
    "base64": Late('{"b64":"YWJj"}', '{"b64":"!"}', _STRING),
    "base64 without padding": Late('{"b64":"YWJ"}', '{"b64":"!"}', _STRING),
    "base64, another key": Late('{"b64":"YWJj"}', '{"b65":"YWJj"}', _STRING),
    "rows of base64": Late('[{"b64":"YWJj"}]', '[{"b64":1}]', _STRING, head=_INPUTS),
    # objects
    "objects": Late('{"x":1}', '{"x":"a"}'),
    "unknown name": Late('{"x":1,"y":2}', '{"x":1,"z":2}', names="xy"),
    "missing name": Late('{"x":1,"y":2}', '{"x":1}', names="xy"),
    "another order": Late('{"x":1,"y":2}', '{"y":1,"x":"a"}', names="xy"),
    "one name twice": Late('{"x":1,"x":2}', '{"x":"a"}'),
    "one name twice at the end": Late('{"x":1}', '{"x":"a","x":1}'),
    "one name twice with lists": Late('{"x":[1],"x":[2]}', '{"x":["a"]}'),
    "escaped names": Late(r'{"\u0078":1}', '{"x":"a"}'),
    "one name only": Late('"x":1', '"x":"a"', head='{"instances":[{', tail="}]}"),
    "two columns": Late("1", '"a"', names="xy", head='{"inputs":{"x":[1],"y":[', tail="]}}"),
    "missing column": Late("1", "1", names="xy", head='{"inputs":{"x":[', tail="]}}"),
    "other members": Late("{}", "1", head='{"others":[', tail='],"inputs":"a"}'),
    "signature_name last": Late("[1]", "[1]", tail='],"signature_name":1}'),
    "both formats": Late("[1]", "[1]", tail='],"inputs":1}'),
    # wrong JSON
    "open list": Late("[1]", "[1"),
    "open object": Late('{"x":1}', '{"x":nul'),
    "trailing comma": Late("1.5", ""),
    "trailing comma inside": Late("[1]", "[1,]"),
    "no comma": Late("[1]", "[1][1]"),
    "leading zero": Late("1", "01"),
    "no fraction": Late("1.5", "1."),
    "no exponent": Late("1.5", "1e"),
    "plus": Late("1", "+1"),
    "half a word": Late("1.5", "Infi"),
    "other brackets": Late("[1]", "[1}"),
    "end of the text": Late("[1]", "[1]\0"),
    # depth
    "deep": Late("[[[[[[1]]]]]]", '[[[[[["a"]]]]]]'),
    "twenty deep": Late("[" * 20 + "1" + "]" * 20, "[" * 20 + '"a"' + "]" * 20),
    "all below twenty": Late("1", "x", head='{"inputs":' + "[" * 20, tail="]" * 20 + "}"),
    "five thousand deep": Late("[" * 5000 + "1" + "]" * 5000, "1", early=True),
    "steps five thousand deep": Late("[1," * 5000 + "1" + "]" * 5000, "1", early=True),
    "objects two thousand deep": Late('{"":' * 2000 + "1" + "}" * 2000, "1", early=True),
    "open lists": Late("[", "", joiner="", early=True),
    "open objects": Late('{"":', "", joiner="", early=True),
    # one long token
    "spaces": Late(" ", "a", head='{"instances":[1', joiner=""),
    "spaces between": Late("1.5" + " " * 50, '"a"'),
    "digits": Late("1", "", joiner=""),
    "digits of a fraction": Late("1", ',"a"', head='{"instances":[0.', joiner=""),
    "digits of an exponent": Late("1", "", head='{"instances":[1e', joiner=""),
    "control character in a long string": Late("x", '\n"', _STRING, head='{"inputs":["', joiner=""),
    "long string without end": Late("x", "", _STRING, head='{"inputs":["', tail="", joiner=""),
    "backslashes without end": Late(r"\\", "", _STRING, head='{"inputs":["', tail="", joiner=""),
    "quotes without end": Late(r"\"", "", _STRING, head='{"inputs":["', tail="", joiner=""),
    "half pairs in a long string": Late(r"\udc80", '",1', _STRING, head='{"inputs":["', joiner=""),
    "escapes, then not UTF-8": Late(r"\n", '\udce9",1', _STRING, head='{"inputs":["', joiner=""),
    "spaces, then lists": Late("[1]", '["a"', head='{"instances":[' + " " * 2**20, tail=""),
    "a string, then lists": Late(
        "[1]", '["a"', head='{"x":"' + "a" * 2**20 + '","instances":[', tail=""
    ),
    # behind the first error, or the value
    "commas": Late(",", "", joiner="", early=True),
    "closing brackets": Late("]", "", joiner="", early=True),
    "rubbish behind": Late("[1]", "", head='{"instances":["a"]}', early=True),
    "quotes behind": Late('"', "", head='{"instances":["a"]}', joiner="", early=True),
    "byte order mark": Late("[1]", '"a"', head='\ufeff{"instances":[', early=True),
}
