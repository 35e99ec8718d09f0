"""Predict requests, decoded for a signature of given inputs."""

from collections.abc import Mapping
from typing import Any

from lambda_serving.api.codec import Format, Growth, Limits, decode, parse
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import ServingError
from lambda_serving.servables.servable import Signature, TensorSpec

__all__ = ["GENERAL", "QUICK", "decoded", "outcome", "plain", "signature"]

QUICK = Limits()
GENERAL = Limits(nesting=66)
"""Below simdjson's limit, so that Python reads everything."""


def signature(**inputs: DType) -> Signature:
    specs = {name: TensorSpec(inputs[name], None, f"{name}:0") for name in sorted(inputs)}
    return Signature("serving_default", specs, {}, "", b"", {})


def decoded(
    body: bytes, inputs: Mapping[str, DType], limits: Limits = QUICK
) -> tuple[Format, dict[str, Array]]:
    with Growth() as growth:
        return decode(parse(body, limits._replace(growth=growth)), signature(**inputs))


def plain(result: tuple[Format, dict[str, Array]]) -> tuple[str, dict[str, Any]]:
    form, arrays = result
    return form.name, {
        name: (array.dtype.name, array.shape, array.tolist()) for name, array in arrays.items()
    }


def outcome(body: bytes, inputs: Mapping[str, DType], limits: Limits) -> str:
    try:
        return repr(plain(decoded(body, inputs, limits)))
    except ServingError as error:
        return f"{error.code.name}: {error}"
