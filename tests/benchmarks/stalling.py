"""Requests that take a server a long time, hostile or honest, and the models they go to."""

import base64
import gzip
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.protos.tensor_proto import fill
from support.graphs import add, constants, graph, save
from support.grpc_web import TEXT, frame
from support.rpc_client import message, path_of, predict_request

__all__ = ["BODY", "Server", "requests", "write_models"]

BODY = 96 * 2**20
"""The largest body of a request here, in bytes."""
_SECONDS = 300
_JSON_BYTES = 32 * 2**20
_SIGNATURES = 20_000
_CONNECTIONS = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """The addresses of a server, and the file of its models."""

    http: str
    grpc: str
    config: str

    def post(self, path: str, body: bytes, **headers: str) -> None:
        """Sends a POST; any answer will do."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            httpx.post(f"http://{self.http}{path}", content=body, headers=named, timeout=_SECONDS)

    def get(self, path: str, **headers: str) -> None:
        httpx.get(f"http://{self.http}{path}", headers=headers, timeout=_SECONDS)

    def call(self, method: str, body: bytes) -> None:
        """Sends a gRPC call; any status will do."""
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(self.grpc, limits) as channel, suppress(grpc.RpcError):
            call: Any = channel.unary_unary(path_of(method))
            call(body, timeout=_SECONDS)


Send = Callable[[Server], None]


def write_models(folder: Path) -> None:
    """Writes the models, beside `examples`, which `models.py` writes."""
    _tiny(folder / "tiny/1")
    values = {
        "floats": np.array(0.1, np.float32),
        "strings": np.array(b"a text of 20 letters", "O"),
    }
    for name, value in values.items():
        dtype = DType.of(value.dtype)
        same = graph()
        add(same, "Placeholder", "x", dtype=dtype)
        add(same, "Identity", "y", "x", T=dtype)
        _save(same, folder / name / "1", dtype, dtype)
        filled = graph()
        fill(add(filled, "Const", "value", dtype=dtype).attr["value"].tensor, value)
        add(filled, "Placeholder", "x", dtype=DType.INT64)
        add(filled, "Fill", "y", "x", "value", T=dtype, index_type=DType.INT64)
        _save(filled, folder / f"many_{name}" / "1", DType.INT64, dtype)
    _product(folder / "product/1")
    _signatures(folder / "signatures/1")


def _save(of: Any, folder: Path, taken: DType, given: DType) -> None:
    save(of, folder, inputs={"x": ("x:0", taken)}, outputs={"y": ("y:0", given)})


def _tiny(folder: Path) -> None:
    half = graph()
    constants(half, half=np.float32(0.5))
    add(half, "Placeholder", "x", dtype=DType.FLOAT)
    add(half, "Mul", "y", "x", "half", T=DType.FLOAT)
    _save(half, folder, DType.FLOAT, DType.FLOAT)


def _product(folder: Path) -> None:
    """The product of two matrices, whose sizes are the values of `x`."""
    made = graph()
    constants(made, axis=np.array([0, 1], np.int32), one=1.0)
    add(made, "Placeholder", "x", dtype=DType.INT64)
    add(made, "Fill", "ones", "x", "one", T=DType.FLOAT, index_type=DType.INT64)
    add(made, "MatMul", "product", "ones", "ones", T=DType.FLOAT)
    add(made, "Sum", "y", "product", "axis", T=DType.FLOAT, Tidx=DType.INT32)
    _save(made, folder, DType.INT64, DType.FLOAT)


def _signatures(folder: Path) -> None:
    _tiny(folder)
    file = folder / "saved_model.pb"
    saved = protos.message("tensorflow.SavedModel").FromString(file.read_bytes())
    [meta_graph] = saved.meta_graphs
    definition = meta_graph.signature_def["serving_default"]
    for number in range(_SIGNATURES):
        meta_graph.signature_def[f"signature_{number}"].CopyFrom(definition)
    file.write_bytes(saved.SerializeToString())


def requests() -> dict[str, Callable[[], Send]]:
    """The function that makes each kind of request, by name."""
    return {**_rest(), **_rpc(), **_web(), **_others()}


def _post(path: str, body: bytes, **headers: str) -> Send:
    return lambda server: server.post(path, body, **headers)


def _call(method: str, body: bytes) -> Send:
    return lambda server: server.call(method, body)


def _predict(model: str, body: bytes, **headers: str) -> Send:
    return _post(f"/v1/models/{model}:predict", body, **headers)


def _listed(element: bytes, last: bytes = b"", size: int = _JSON_BYTES) -> bytes:
    return b'{"instances":[%b%b]}' % (
        b",".join([element] * (max(1, size // (len(element) + 1)))),
        last,
    )


def _examples(element: bytes, size: int) -> bytes:
    return b'{"examples":[%b]}' % b",".join([element] * (size // len(element)))


def _rest() -> Mapping[str, Callable[[], Send]]:
    zipped = {"content_encoding": "gzip"}
    example = b'{"numbers":[%b],"words":["a"]}' % b",".join([b"0.5"] * 16)
    return {
        "32 MiB of numbers": lambda: _predict("floats", _listed(b"0.123456")),
        "32 MiB of lists": lambda: _predict("floats", _listed(b"[1]")),
        "32 MiB of rows": lambda: _predict("floats", _listed(b"[%b]" % b",".join([b"0.5"] * 784))),
        "32 MiB of lists, wrong at the end": lambda: _predict("floats", _listed(b"[1]", b',["a"]')),
        "32 MiB of numbers, no JSON at the end": lambda: _predict("floats", _listed(b"0.5", b",}")),
        "32 MiB of strings": lambda: _predict("strings", _listed(b'"abc"')),
        "32 MiB of base64": lambda: _predict("strings", _listed(b'{"b64":"YWJj"}')),
        "32 MiB in one string": lambda: _predict("strings", _listed(b'"%b"' % (b"a" * 2**25))),
        "32 MiB of escapes": lambda: _predict("strings", _listed(b'"%b"' % (b"\\n" * 2**24))),
        "32 MiB in one base64": lambda: _predict(
            "strings", _listed(b'{"b64":"%b"}' % base64.b64encode(bytes(2**24)))
        ),
        "32 MiB of unregular lists": lambda: _predict("floats", _listed(b"[1,[2]]")),
        "32 MiB of brackets": lambda: _predict("floats", b'{"instances":' + b"[" * 2**25),
        "32 MiB of spaces": lambda: _predict("floats", b" " * 2**25 + b'{"instances":[1]}'),
        "32 MiB of members": lambda: _predict(
            "floats", b'{"a":1,%b"instances":[1]}' % (b'"b":2,' * (2**25 // 6))
        ),
        "gzip of 32 MiB of lists": lambda: _predict(
            "floats", gzip.compress(_listed(b"[1]"), 1), **zipped
        ),
        "gzip of spaces over the limit": lambda: _predict(
            "floats", gzip.compress(b" " * 2**28, 1), **zipped
        ),
        "classify 16 MiB of examples": lambda: _post(
            "/v1/models/examples:classify",
            b'{"signature_name":"classify",' + _examples(example, 2**24)[1:],
        ),
        "regress 16 MiB of features": lambda: _post(
            "/v1/models/examples:regress",
            b'{"signature_name":"regress",' + _examples(b'{"a":1}', 2**24)[1:],
        ),
        "answer of 5,000,000 floats": lambda: _predict("many_floats", b'{"inputs":[5000000]}'),
        "answer of 5,000,000 floats, zipped": lambda: _predict(
            "many_floats", b'{"inputs":[5000000]}', accept_encoding="gzip"
        ),
        "answer of 1,000,000 strings": lambda: _predict("many_strings", b'{"inputs":[1000000]}'),
        "cost by a value": lambda: _predict("product", b'{"inputs":[3000,3000]}'),
        "metadata of 20,000 signatures": lambda: (
            lambda server: server.get("/v1/models/signatures/metadata")
        ),
    }


def _length(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))


def _field(number: int, content: bytes) -> bytes:
    return _length(number << 3 | 2) + _length(len(content)) + content


def _input(model: str, tensor: bytes) -> bytes:
    """A `PredictRequest` whose only input is a `TensorProto` with these bytes."""
    return _field(1, _field(1, model.encode())) + _field(2, _field(1, b"x") + _field(2, tensor))


def _tensor(dtype: DType, count: int, content: bytes) -> bytes:
    return b"\x08" + _length(dtype) + _field(2, _field(2, b"\x08" + _length(count))) + content


_EMPTIES = 10_000_000


def _rpc() -> Mapping[str, Callable[[], Send]]:
    predict = partial(_call, "Predict")
    floats, wide = DType.FLOAT, 2**24
    zeros = bytes(4 * wide)
    return {
        "64 MiB of float_val": lambda: predict(
            _input("floats", _tensor(floats, wide, _field(5, zeros)))
        ),
        "64 MiB of tensor_content": lambda: predict(
            _input("floats", _tensor(floats, wide, _field(4, zeros)))
        ),
        "16,000,000 of float_val, unpacked": lambda: predict(
            _input("floats", _tensor(floats, wide, b"\x2d\x00\x00\x00\x00" * wide))
        ),
        "16,000,000 of float_val, one asked for": lambda: predict(
            _input("floats", _tensor(floats, 1, _field(5, zeros)))
        ),
        "ten million empty strings": lambda: predict(
            _input("strings", _tensor(DType.STRING, _EMPTIES, b"\x42\x00" * _EMPTIES))
        ),
        "ten million empty strings, one asked for": lambda: predict(
            _input("strings", _tensor(DType.STRING, 1, b"\x42\x00" * _EMPTIES))
        ),
        "ten million empty strings for floats": lambda: predict(
            _input("floats", _tensor(floats, 1, b"\x42\x00" * _EMPTIES))
        ),
        "a million strings": lambda: predict(
            _input(
                "strings", _tensor(DType.STRING, 2**20, _field(8, b"a text of 20 letters") * 2**20)
            )
        ),
        "ten million empty inputs": lambda: predict(b"\x12\x00" * _EMPTIES),
        "ten million unknown fields": lambda: predict(b"\x78\x00" * _EMPTIES),
        "ten million empty filters": lambda: predict(b"\x1a\x00" * _EMPTIES),
        "a million strings as content": lambda: predict(
            _input(
                "strings", _tensor(DType.STRING, 2**20, _field(4, b"\x01" * 2**20 + bytes(2**20)))
            )
        ),
        "answer of 16,000,000 floats by gRPC": lambda: predict(
            predict_request("many_floats", {"x": np.array([wide])}).SerializeToString()
        ),
        "answer of 1,000,000 strings by gRPC": lambda: predict(
            predict_request("many_strings", {"x": np.array([10**6])}).SerializeToString()
        ),
        "one string repeated a million times": lambda: predict(
            _input("strings", _tensor(DType.STRING, 10**6, _field(8, b"a text of 20 letters")))
        ),
        "cost by a value, gRPC": lambda: predict(
            predict_request("product", {"x": np.array([3000, 3000])}).SerializeToString()
        ),
        "classify 50,000 examples": lambda: _call("Classify", _classification("classify", 50_000)),
        "regress 50,000 examples": lambda: _call("Regress", _classification("regress", 50_000)),
        "ten million empty examples": lambda: _call(
            "Classify",
            _field(1, _field(1, b"examples")) + _field(2, _field(1, b"\x0a\x00" * _EMPTIES)),
        ),
        "multi-inference of 50,000 examples": lambda: _call("MultiInference", _multi(50_000)),
        "metadata of 20,000 signatures by gRPC": lambda: _call(
            "GetModelMetadata",
            message(
                "GetModelMetadataRequest",
                {"modelSpec": {"name": "signatures"}, "metadataField": ["signature_def"]},
            ).SerializeToString(),
        ),
    }


def _input_of(count: int) -> bytes:
    feature = protos.message("tensorflow.Example")()
    feature.features.feature["numbers"].float_list.value.extend([0.5] * 16)
    feature.features.feature["words"].bytes_list.value.extend([b"red", b"green"])
    return _field(1, _field(1, feature.SerializeToString()) * count)


def _classification(signature: str, count: int) -> bytes:
    spec = _field(1, b"examples") + _field(4, signature.encode())
    return _field(1, spec) + _field(2, _input_of(count))


def _multi(count: int) -> bytes:
    tasks = b"".join(
        _field(
            1,
            _field(1, _field(1, b"examples") + _field(4, name))
            + _field(2, b"tensorflow/serving/" + name),
        )
        for name in (b"classify", b"regress")
    )
    return tasks + _field(2, _input_of(count))


def _web() -> Mapping[str, Callable[[], Send]]:
    zeros = _field(5, bytes(4 * 2**23))
    body = partial(_input, "floats", _tensor(DType.FLOAT, 2**23, zeros))
    post = partial(_post, path_of("Predict"))
    return {
        "32 MiB by gRPC-Web": lambda: post(frame(body()), content_type="application/grpc-web"),
        "32 MiB by gRPC-Web, base64": lambda: post(
            base64.b64encode(frame(body())), content_type=TEXT
        ),
        "32 MiB by gRPC-Web, base64 in small parts": lambda: post(
            b"AA==" * 2**23, content_type=TEXT
        ),
        "answer of 8,000,000 floats by gRPC-Web, base64": lambda: post(
            base64.b64encode(
                frame(predict_request("many_floats", {"x": np.array([2**23])}).SerializeToString())
            ),
            content_type=TEXT,
        ),
    }


def _others() -> Mapping[str, Callable[[], Send]]:
    names = {f"x-{number}": "a" for number in range(5000)}
    return {
        "a reload of the same models": lambda: _reload,
        "the page of metrics": lambda: lambda server: server.get("/metrics"),
        "60 KiB of headers": lambda: lambda server: server.get("/healthz", **names),
        "1,000 idle connections": lambda: _connections,
        "8 bodies of 32 MiB of lists": lambda: partial(_together, 8),
    }


def _reload(server: Server) -> None:
    from google.protobuf import text_format

    request = protos.message("tensorflow.serving.ReloadConfigRequest")()
    text_format.Parse(Path(server.config).read_text(), request.config)
    server.call("HandleReloadConfigRequest", request.SerializeToString())


def _connections(server: Server) -> None:
    host, _, port = server.http.rpartition(":")
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(b"GET /v1/models/tiny HTTP/1.1\r\nHost: x\r\n")


def _together(count: int, server: Server) -> None:
    body = _listed(b"[1]")
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: server.post("/v1/models/floats:predict", body), range(count)))
