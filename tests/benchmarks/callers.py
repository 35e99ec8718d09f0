"""A client of one connection: `python callers.py SIDE HOST:PORT`, SIDE `grpc` or `rest`.

Each line of standard input is a number of seconds, during which it sends requests with 1,000
float32, each made from an array; each answer becomes an array. It prints a line of JSON: requests a
second, and the p99 in milliseconds. gRPC is grpcio, REST is `http.client` and `json`.
"""

import json
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from time import perf_counter

import numpy as np

from lambda_serving.dtypes import Array

_Call = Callable[[Array], Array]


def main(side: str, address: str) -> None:
    call = (_grpc if side == "grpc" else _rest)(address)
    numbers: Array = np.random.default_rng(0).random((1, 1000), np.float32)
    for line in sys.stdin:
        until, took = perf_counter() + float(line), []
        while (start := perf_counter()) < until:
            answer = call(numbers)
            took.append(perf_counter() - start)
        np.testing.assert_allclose(answer, numbers / 2 + 2, rtol=1e-6)
        report = {"rate": len(took) / float(line), "p99_ms": 1000 * np.percentile(took, 99)}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


def _grpc(address: str) -> _Call:
    import grpc

    from lambda_serving import protos
    from lambda_serving.protos.tensor_proto import fill, to_array

    request_type = protos.message("tensorflow.serving.PredictRequest")
    predict = grpc.insecure_channel(address).unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_type.SerializeToString,
        protos.message("tensorflow.serving.PredictResponse").FromString,
    )

    def call(numbers: Array) -> Array:
        request = request_type()
        request.model_spec.name = "MLP"
        fill(request.inputs["numbers"], numbers)
        return to_array(predict(request).outputs["output"])

    return call


def _rest(address: str) -> _Call:
    connection = HTTPConnection(address)

    def call(numbers: Array) -> Array:
        body = json.dumps({"instances": numbers.tolist()})
        connection.request("POST", "/v1/models/MLP:predict", body)
        answer = json.load(connection.getresponse())
        predictions: Array = np.array(answer["predictions"], np.float32)
        return predictions

    return call


if __name__ == "__main__":
    main(*sys.argv[1:])
