"""Where gRPC-Web calls are sent."""

import pytest

from lambda_serving.api.rpc import grpc_web_addresses
from lambda_serving.api.rpc.grpc_web_addresses import Address
from lambda_serving.model_spec import ModelSpec

_METHOD = "/tensorflow.serving.PredictionService/Predict"


def _read(path: str) -> Address | None:
    return grpc_web_addresses.read({"path": path, "raw_path": path.encode()})


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (_METHOD, Address(_METHOD)),
        ("/tensorflow.serving.Nope", Address("/tensorflow.serving.Nope")),
        (f"/v1/models/m/grpc-web{_METHOD}", Address(_METHOD, ModelSpec("m"))),
        (f"/v1/models/m/grpc-web{_METHOD}x", Address(f"{_METHOD}x", ModelSpec("m"))),
        (f"/v1/models/m%2Fn/grpc-web{_METHOD}", Address(_METHOD, ModelSpec("m/n"))),
        (f"/v1/models/grpc-web/grpc-web{_METHOD}", Address(_METHOD, ModelSpec("grpc-web"))),
        (
            f"/v1/models/m/versions/{2**63 - 1}/grpc-web{_METHOD}",
            Address(_METHOD, ModelSpec("m", version=2**63 - 1)),
        ),
        (
            f"/v1/models/m/versions/{'0' * 5000}7/grpc-web{_METHOD}",
            Address(_METHOD, ModelSpec("m", version=7)),
        ),
        (f"/v1/models/m/versions/0/grpc-web{_METHOD}", Address(_METHOD, ModelSpec("m", version=0))),
        (
            f"/v1/models/m/labels/%C3%A9/grpc-web{_METHOD}",
            Address(_METHOD, ModelSpec("m", label="é")),
        ),
        (
            f"/v1/models/m/labels/grpc-web/grpc-web{_METHOD}",
            Address(_METHOD, ModelSpec("m", label="grpc-web")),
        ),
    ],
)
def test_call_has_an_address(path: str, address: Address) -> None:
    assert _read(path) == address


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m:predict",
        "/v1/models/tensorflow.serving.m:predict",
        "/v1/models/grpc-web/metadata",
        "/v1/models/m/labels/grpc-web/metadata",
        "/v1/models/m/grpc-web",
        "/v1/models/m/grpc-web/x",
        f"/v1/models/m/grpc-web{_METHOD}/x",
        f"/v1/models/m:x/grpc-web{_METHOD}",
        f"/v1/models/m/versions/x/grpc-web{_METHOD}",
        f"/v1/models/m/versions/{2**63}/grpc-web{_METHOD}",
        f"/v1/models/m/versions/1/labels/a/grpc-web{_METHOD}",
        f"/v2/models/m/grpc-web{_METHOD}",
    ],
)
def test_other_paths_have_no_address(path: str) -> None:
    assert _read(path) is None


def test_path_is_enough_where_a_server_keeps_no_raw_one() -> None:
    assert grpc_web_addresses.read({"path": f"/v1/models/m/grpc-web{_METHOD}"}) == Address(
        _METHOD, ModelSpec("m")
    )
