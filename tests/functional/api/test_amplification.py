"""Small messages that stand for large ones, in a process with little memory.

Once its models are loaded, the process may take little more memory. So code that copies before it
counts ends it, or fails with an unexpected code.
"""

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import TypeVar

import httpx
import numpy as np
import pytest

from lambda_serving.api import codec
from lambda_serving.api.http import Bounded
from lambda_serving.api.prediction_threads import Deadline, Gone, Threads
from lambda_serving.api.request_memory import Held, Room
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc.services import Services
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import Cancelled, ResourceExhausted
from support.asgi import ask
from support.rpc_client import message, path_of, predict_request

_Result = TypeVar("_Result")
MakeApp = Callable[[tuple[str, ...]], httpx.ASGITransport]

_CHILD = dedent(
    """
    import asyncio, json, resource, sys
    from pathlib import Path

    import psutil

    from lambda_serving import protos
    from lambda_serving.servables import saved_model
    from lambda_serving.dtypes import DType
    from lambda_serving.core.basic_manager import Manager
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.api.rest import create_app
    from lambda_serving.config.server_flags import Settings
    from lambda_serving.api.rpc.services import Services
    from lambda_serving.store import LocalStore
    from support.asgi import ask

    MEBIBYTE = 2**20
    folder = Path(sys.argv[1])
    names = ("half_plus_two", "identity_string", "identity_complex64", "examples")
    models = [ModelConfig(name, str(folder / name)) for name in names]
    store = LocalStore({model.name: model.base_path for model in models})
    manager = Manager(store, saved_model.load)
    manager.serve(models)
    services = Services(manager, Settings(grpc_max_message_bytes=64 * MEBIBYTE))
    app = create_app(manager, Settings())


    def predict(model, size, **fields):
        request = protos.message("tensorflow.serving.PredictRequest")()
        request.model_spec.name = model
        request.inputs["x"].MergeFrom(protos.message("tensorflow.TensorProto")(**fields))
        request.inputs["x"].tensor_shape.dim.add(size=size)
        return answer("Predict", request)


    def classify(context, count):
        request = protos.message("tensorflow.serving.ClassificationRequest")()
        request.model_spec.name = "examples"
        both = request.input.example_list_with_context
        both.context.features.feature["x"].bytes_list.value.append(context)
        for _ in range(count):
            both.examples.add()
        return answer("Classify", request)


    def answer(method, request):
        body = request.SerializeToString()
        assert len(body) < 200_000
        path = f"/tensorflow.serving.PredictionService/{method}"
        return asyncio.run(services.answer(path, body)).code


    def many_fields(method, *tags):
        # empty fields of the last tag, inside of messages of those before it
        body = bytes([tags[-1], 0]) * 2**21
        for tag in reversed(tags[:-1]):
            body = bytes([tag]) + length_of(body) + body
        return asyncio.run(services.answer(f"/tensorflow.serving.{method}", body)).code


    def length_of(body):
        size = len(body)
        return bytes([size >> shift & 127 | 128 for shift in (0, 7, 14, 21)] + [size >> 28])


    def rest_classify(context, count):
        examples = ",".join(["{}"] * count)
        body = '{"context":{"x":"%s"},"examples":[%s]}' % (context, examples)
        path = "/v1/models/examples:classify"
        return ask(app, "POST", path, content=body).status_code


    # all that is loaded late is loaded now
    codes = {"well": predict("half_plus_two", 3, dtype=DType.FLOAT, float_val=[1])}
    rest_classify("x", 2), classify(b"x", 2)
    MEMORY = psutil.Process().memory_info()
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten


    def spare(size):
        limit = MEMORY.vms + size * MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


    def largest():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


    spare(160)
    codes["inputs"] = many_fields("PredictionService/Predict", 0x12)
    codes["examples"] = many_fields("PredictionService/Classify", 0x12, 0x0A, 0x0A)
    codes["models"] = many_fields("ModelService/HandleReloadConfigRequest", 0x0A, 0x0A, 0x0A)
    text = [b"x" * 50_000]
    codes["long string, repeated"] = predict(
        "identity_string", 1 << 20, dtype=DType.STRING, string_val=text)
    codes["empty strings"] = predict("identity_string", 1 << 30, dtype=DType.STRING)
    codes["string for floats"] = predict(
        "half_plus_two", 1 << 20, dtype=DType.STRING, string_val=text)
    codes["floats"] = predict("half_plus_two", 1 << 30, dtype=DType.FLOAT, float_val=[1])
    codes["complex"] = predict("identity_complex64", 1 << 25, dtype=DType.COMPLEX64)
    codes["context"] = classify(text[0], 20_000)
    codes["context, REST"] = rest_classify("x" * 50_000, 20_000)
    grown = largest() - MEMORY.rss
    for size in (40, 100, 160):  # for no array, for no tensor, for no answer
        spare(size)
        codes[f"floats, {size} MiB"] = predict("half_plus_two", 1 << 24, dtype=DType.FLOAT)
        codes[f"strings, {size} MiB"] = predict(
            "identity_string", 1300, dtype=DType.STRING, string_val=text)
    codes["well again"] = predict("half_plus_two", 3, dtype=DType.FLOAT, float_val=[1])
    print(json.dumps([codes, grown]))
    """
)
_OK, _INVALID_ARGUMENT, _RESOURCE_EXHAUSTED, _TOO_LARGE = 0, 3, 8, 413


def test_small_messages_that_stand_for_large_ones_cost_no_memory_and_end_nothing(
    models_dir: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _CHILD, models_dir],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    codes, grown = json.loads(ended.stdout.splitlines()[-1])
    assert codes == {
        "well": _OK,
        "inputs": _RESOURCE_EXHAUSTED,
        "examples": _RESOURCE_EXHAUSTED,
        "models": _RESOURCE_EXHAUSTED,
        "long string, repeated": _INVALID_ARGUMENT,
        "empty strings": _INVALID_ARGUMENT,
        "string for floats": _INVALID_ARGUMENT,
        "floats": _INVALID_ARGUMENT,
        "complex": _INVALID_ARGUMENT,
        "context": _INVALID_ARGUMENT,
        "context, REST": _TOO_LARGE,
        "floats, 40 MiB": _RESOURCE_EXHAUSTED,
        "strings, 40 MiB": _RESOURCE_EXHAUSTED,
        "floats, 100 MiB": _RESOURCE_EXHAUSTED,
        "strings, 100 MiB": _RESOURCE_EXHAUSTED,
        "floats, 160 MiB": _RESOURCE_EXHAUSTED,
        "strings, 160 MiB": _RESOURCE_EXHAUSTED,
        "well again": _OK,
    }
    assert grown < 48 * 2**20


def test_messages_and_what_they_stand_for_are_bounded_all_together(manager: Manager) -> None:
    services = Services(manager, Settings(grpc_max_message_bytes=2**20))
    request = predict_request("half_plus_two", {"x": [1]})
    request.inputs["x"].tensor_shape.dim[0].size = 1000
    path, body = path_of("Predict"), request.SerializeToString()
    with Held(services.room) as others:
        others.add(256 * 2**20 - 3999)
        reply = asyncio.run(services.answer(path, body))
        assert (reply.code, reply.message) == (
            _RESOURCE_EXHAUSTED,
            "The messages of all calls at once are over 268435456 bytes. Try again later",
        )
    assert asyncio.run(services.answer(path, body)).code == _OK


class _Counting(Threads):
    """Threads that count what they are handed."""

    handed = 0

    async def call(
        self,
        model: str,
        work: Callable[[], _Result],
        deadline: Deadline,
        gone: Gone | None = None,
    ) -> _Result:
        self.handed += 1
        return await super().call(model, work, deadline, gone)


def test_small_message_that_stands_for_many_elements_is_read_in_a_thread(
    manager: Manager,
) -> None:
    request = predict_request("half_plus_two", {"x": [1]})
    request.inputs["x"].tensor_shape.dim[0].size = 60_000
    path = path_of("Predict")

    async def main(threads: _Counting) -> None:
        services = Services(manager, Settings(), threads)

        async def is_handed_over() -> bool:
            before = threads.handed
            reply = await services.answer(path, request.SerializeToString())
            assert reply.code == _OK
            return threads.handed > before

        for _ in range(200):  # how quick a run is depends on the machine
            await is_handed_over()
            if threads.handed and not await is_handed_over():
                break
        request.inputs["x"].tensor_shape.dim[0].size = 2**20
        for _ in range(10):
            assert await is_handed_over()

    with _Counting(1, "test") as threads:
        asyncio.run(main(threads))


def test_context_that_many_examples_repeat_is_read_in_a_thread(
    manager: Manager,
) -> None:
    request = message("RegressionRequest", {"modelSpec": {"name": "half_plus_two"}})
    request.model_spec.signature_name = "regress_x_to_y"
    both = request.input.example_list_with_context
    both.context.features.feature["x"].float_list.value.append(1)
    both.context.features.feature["y"].bytes_list.value.append(bytes(6000))
    both.examples.add()
    context = {"x": 1.0, "y": "y" * 9000}
    rest = json.dumps({"signature_name": "regress_x_to_y", "context": context, "examples": [{}]})

    async def main(threads: _Counting) -> None:
        services = Services(manager, Settings(), threads)
        app = create_app(manager, Settings(), threads)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            for _ in range(10):  # of which the last would be taken to be quick
                before = threads.handed
                reply = await services.answer(path_of("Regress"), request.SerializeToString())
                answer = await client.post("/v1/models/half_plus_two:regress", content=rest)
                assert (reply.code, answer.status_code) == (_OK, 200)
                assert threads.handed == before + 2

    with _Counting(1, "test") as threads:
        asyncio.run(main(threads))


def test_large_message_is_read_outside_of_the_event_loop(manager: Manager) -> None:
    request = predict_request("half_plus_two", {"x": np.ones(2**16, np.float32)})

    async def main(threads: _Counting) -> None:
        services = Services(manager, Settings(), threads)
        reply = await services.answer(path_of("Predict"), request.SerializeToString())
        assert (reply.code, threads.handed) == (_OK, 2)

    with _Counting(1, "test") as threads:
        asyncio.run(main(threads))


_ROWS = b'["' + b'"],["'.join([b"abc"] * 50_000) + b'"]'


@pytest.mark.parametrize(
    ("body", "takes"),
    [
        (gzip.compress(b'{"instances": [1.0]}' + b" " * 2**20), 2**20),
        (b'{"instances":[%b]}' % _ROWS, 8 * 2**20),
        (gzip.compress(b'{"instances":[%b]}' % _ROWS), 8 * 2**20),
    ],
    ids=["unzipped", "objects", "both"],
)
def test_body_counts_with_the_memory_that_its_values_take(
    app: MakeApp, body: bytes, takes: int
) -> None:
    headers = {"content-encoding": "gzip"} if body.startswith(b"\x1f") else {}
    path = "/v1/models/half_plus_two:predict"
    right = 200 if takes == 2**20 else 400
    bounded = Bounded(app(()).app, 4 * takes)
    for others, status in ((0, right), (2 * takes, right), (4 * takes - 1, 503), (0, right)):
        with Held(bounded.room) as held:  # nothing of the last request is held any more
            held.add(others)
            answer = ask(bounded, "POST", path, content=body, headers=headers)
        assert answer.status_code == status


def test_single_request_may_take_more_than_the_limit_for_all(app: MakeApp) -> None:
    body = b'{"instances":[%b]}' % _ROWS
    answer = ask(
        Bounded(app(()).app, len(body)), "POST", "/v1/models/identity_string:predict", content=body
    )
    assert answer.status_code == 200


def test_answered_request_is_read_no_further_and_holds_no_memory() -> None:
    """Its time may be up while a thread is at its body."""
    room = Room(2**30, lambda limit: ResourceExhausted(str(limit)))
    held = Held(room)
    pieces = 0

    def hold(size: int) -> None:
        nonlocal pieces
        held.add(size)
        pieces += not size
        if pieces == 3:
            with held:
                pass  # and it has been answered

    with pytest.raises(Cancelled):
        codec.parse(b'{"instances":["a"%b]}' % (b',"a"' * 2**18), codec.Limits(hold=hold))
    assert pieces == 3
    room.take(2**30)
    with pytest.raises(ResourceExhausted):
        room.take(1)
