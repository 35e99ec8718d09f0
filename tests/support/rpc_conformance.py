"""Cases of the conformance table that gRPC answers as REST does, and how to replay them."""

from collections.abc import Callable, Iterable

import grpc

from lambda_serving.api import codec
from lambda_serving.api.rest import urls
from lambda_serving.api.rest.urls import Verb
from lambda_serving.model_spec import ModelSpec
from lambda_serving.servables.servable import Signature
from support.conformance import Case, check
from support.rpc_client import arrays, call, predict_request

__all__ = ["predictions", "replay"]


def predictions(cases: Iterable[Case]) -> list[Case]:
    """The cases of predict whose outcome depends on the model and not on the JSON."""
    return [
        case
        for case in cases
        if case.status == 200
        and case.method == "POST"
        and case.path.lower().endswith(":predict")
        and not case.headers
    ]


def replay(
    case: Case, channel: grpc.Channel, signature_of: Callable[[ModelSpec, str], Signature]
) -> None:
    """Raises AssertionError unless the same arrays in give the arrays of the case."""
    asked = urls.parse(case.method, case.path)
    assert asked.verb is Verb.PREDICT
    document = codec.parse(case.body, codec.Limits())
    signature = signature_of(asked.spec, document.signature_name)
    form, inputs = codec.decode(document, signature)
    spec = {"version": asked.spec.version, "versionLabel": asked.spec.label}
    request = predict_request(
        asked.spec.name,
        inputs,
        signatureName=document.signature_name,
        **{name: str(value) for name, value in spec.items() if value is not None},
    )
    outputs = arrays(call(channel, "Predict", request))
    body = codec.encode({name: outputs[name] for name in signature.outputs}, form)
    check(case, 200, case.response_headers, body)
