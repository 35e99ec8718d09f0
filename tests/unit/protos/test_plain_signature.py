"""Plain signatures are read and written without protobuf as protobuf reads and writes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving import protos
from lambda_serving.protos import plain_signature
from lambda_serving.protos.plain_signature import PlainSignature, TensorInfo
from lambda_serving.protos.wire import Malformed

_INFOS = st.dictionaries(
    st.text(max_size=3),
    st.builds(
        TensorInfo,
        st.text(max_size=3),
        st.integers(0, 133),
        st.none()
        | st.lists(st.integers(-1, 300) | st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple),
    ),
    max_size=3,
)
_SIGNATURES = st.builds(PlainSignature, _INFOS, _INFOS, st.text(max_size=3))


def _message(signature: PlainSignature) -> Any:
    message = protos.message("tensorflow.SignatureDef")(method_name=signature.method_name)
    for infos, found in ((message.inputs, signature.inputs), (message.outputs, signature.outputs)):
        for key, (name, dtype, shape) in found.items():
            info = infos[key]
            info.name, info.dtype = name, dtype
            if shape is None:
                info.tensor_shape.unknown_rank = True
            for size in shape or ():
                info.tensor_shape.dim.add().size = size
    return message


def _as_protobuf_reads(serialized: bytes) -> PlainSignature:
    message = protos.message("tensorflow.SignatureDef").FromString(serialized)
    inputs, outputs = (
        {
            key: TensorInfo(
                info.name,
                info.dtype,
                None
                if info.tensor_shape.unknown_rank
                else tuple(dim.size for dim in info.tensor_shape.dim),
            )
            for key, info in infos.items()
        }
        for infos in (message.inputs, message.outputs)
    )
    return PlainSignature(inputs, outputs, message.method_name)


@given(_SIGNATURES)
def test_signature_is_that_of_protobuf(signature: PlainSignature) -> None:
    message, written = _message(signature), plain_signature.write(signature)
    assert protos.message("tensorflow.SignatureDef").FromString(written) == message
    assert len(written) == message.ByteSize()
    assert plain_signature.read(message.SerializeToString()) == signature


@given(_SIGNATURES, st.data())
def test_other_bytes_are_read_as_by_protobuf_or_left_to_it(
    signature: PlainSignature, data: st.DataObject
) -> None:
    content = bytearray(plain_signature.write(signature))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content)))
        content[position : position + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2)
        )
    found = plain_signature.read(bytes(content))
    if found is not None and all(_is_enum(info) for info in _all(found)):
        assert found == _as_protobuf_reads(bytes(content))


def _all(signature: PlainSignature) -> list[TensorInfo]:
    return [*signature.inputs.values(), *signature.outputs.values()]


def _is_enum(info: TensorInfo) -> bool:
    """Whether a number fits an enum, which protobuf shortens; no dtype is as large."""
    return -(2**31) <= info.dtype < 2**31


def _unusual() -> dict[str, Any]:
    message = protos.message("tensorflow.SignatureDef")
    found = {
        name: message()
        for name in ("sparse", "composite", "default", "named dimension", "operation")
    }
    found["sparse"].inputs["x"].coo_sparse.values_tensor_name = "values:0"
    found["composite"].outputs["x"].composite_tensor.components.add().name = "x:0"
    found["default"].defaults["x"].float_val.append(1)
    found["named dimension"].inputs["x"].name = "x:0"
    found["named dimension"].inputs["x"].tensor_shape.dim.add().name = "rows"
    found["operation"].outputs["x"].dtype = 1
    return found


@pytest.mark.parametrize(("name", "message"), _unusual().items())
def test_what_is_not_plain_is_left_to_protobuf(name: str, message: Any) -> None:
    assert plain_signature.read(message.SerializeToString()) is None, name


def test_field_that_occurs_twice_is_left_to_protobuf() -> None:
    once = plain_signature.write(PlainSignature({}, {}, "method"))
    assert plain_signature.read(once + once) is None


@given(st.dictionaries(st.text(max_size=3), _SIGNATURES, max_size=3))
def test_map_of_signatures_is_that_of_protobuf(signatures: dict[str, PlainSignature]) -> None:
    message = protos.message("tensorflow.serving.SignatureDefMap")()
    for name, signature in signatures.items():
        message.signature_def[name].CopyFrom(_message(signature))
    found = plain_signature.read_map(message.SerializeToString())
    assert {name: plain_signature.read(each) for name, each in found.items()} == signatures


@pytest.mark.parametrize("content", [b"\x0a", b"\x08\x01", b"\x0a\x03\x0a\x01\xff"])
def test_map_that_is_damaged_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        plain_signature.read_map(content)
