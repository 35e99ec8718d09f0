"""Every gRPC method and every way in which it fails, over a UNIX socket."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from lambda_serving import protos
from lambda_serving.api.prediction_threads import Deadline, Threads
from lambda_serving.api.rpc import examples
from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.api.rpc.services import Reload, Services, no_reload
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import Specific
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from lambda_serving.model_spec import ModelSpec
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support.rpc_client import arrays, call, example_request, message, path_of, predict_request

Open = Callable[..., AbstractContextManager[grpc.Channel]]
_HALF = "half_plus_two"
_AGE_20 = {"age": {"int64List": {"value": [20]}}}
_X = [{"x": {"floatList": {"value": [value]}}} for value in (1.0, 2.0)]
_MANY = 10_000
_ENDLESS = np.array([2**63 - 1])  # doubling overflows to 0 and stays there


@pytest.fixture(scope="session")
def served(manager: Manager, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a channel to a server of its own with these settings."""

    @contextmanager
    def open_channel(
        reload: Reload = no_reload, manager: Manager = manager, **settings: Any
    ) -> Iterator[grpc.Channel]:
        path = str(tmp_path_factory.mktemp("rpc") / "socket")
        with (
            serving(manager, Settings(port=0, grpc_socket_path=path, **settings), reload),
            grpc.insecure_channel(f"unix:{path}") as channel,
        ):
            yield channel

    return open_channel


@pytest.fixture(scope="module")
def channel(served: Open) -> Iterator[grpc.Channel]:
    with served() as channel:
        yield channel


@pytest.fixture(scope="module")
def runtime_channel(served: Open, runtime_manager: Manager) -> Iterator[grpc.Channel]:
    """To a server of the models of each runtime in turn."""
    with served(manager=runtime_manager) as channel:
        yield channel


def _failure(channel: grpc.Channel, method: str, request: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, method, request, **options)
    error: Any = raised.value
    return error.code().name, error.details()


def test_predicts(runtime_channel: grpc.Channel) -> None:
    response = call(runtime_channel, "Predict", predict_request(_HALF, {"x": [1, 2]}))
    assert {name: array.tolist() for name, array in arrays(response).items()} == {"y": [2.5, 3.0]}
    assert response.model_spec == message(
        "ModelSpec", {"name": _HALF, "version": 123, "signatureName": "serving_default"}
    )
    assert list(response.outputs["y"].float_val) == [2.5, 3.0]


@pytest.mark.parametrize(
    ("spec", "version", "y"),
    [
        ({}, 2, 3.5),
        ({"version": "1"}, 1, 2.5),
        ({"versionLabel": "stable"}, 1, 2.5),
        ({"versionLabel": "canary"}, 2, 3.5),
    ],
)
def test_predicts_by_the_version_asked_for(
    runtime_channel: grpc.Channel, spec: Any, version: int, y: float
) -> None:
    response = call(runtime_channel, "Predict", predict_request("two_versions", {"x": [1]}, **spec))
    assert (response.model_spec.version.value, arrays(response)["y"].tolist()) == (version, [y])


def test_predicts_what_the_filter_names_of_any_dtype(runtime_channel: grpc.Channel) -> None:
    inputs = {
        "int_tensor": np.array([1, -2], np.int32),
        "str_tensor": np.array([b"\xff", b""], object),
        "float_tensor": np.array([[0.5]], np.float32),
    }
    request = predict_request("multi", inputs, ["str_out", "int_out"])
    outputs = arrays(call(runtime_channel, "Predict", request))
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "str_out": [b"\xff", b""],
        "int_out": [1, -2],
    }


def test_answers_as_content_by_flag(served: Open) -> None:
    with served(enable_serialization_as_tensor_content=True) as channel:
        response = call(channel, "Predict", predict_request(_HALF, {"x": [1]}))
    assert response.outputs["y"].tensor_content == np.float32(2.5).tobytes()


def test_classifies(channel: grpc.Channel) -> None:
    request = example_request("ClassificationRequest", {"name": "examples"}, _AGE_20)
    response = call(channel, "Classify", request)
    [row] = response.result.classifications
    assert [each.label for each in row.classes] == ["car", "bike", "bus"]
    assert [each.score for each in row.classes] == pytest.approx([2.0, 0.7, 0.1])
    assert (response.model_spec.name, response.model_spec.version.value) == ("examples", 1)
    assert response.model_spec.signature_name == "serving_default"


def test_classifies_by_labels_or_by_scores_alone(channel: grpc.Channel) -> None:
    spec = {"name": "examples", "signatureName": "classes_only"}
    labels = call(channel, "Classify", example_request("ClassificationRequest", spec, _AGE_20))
    spec = {"name": _HALF, "signatureName": "classify_x_to_y"}
    scores = call(channel, "Classify", example_request("ClassificationRequest", spec, *_X))
    rows = [*labels.result.classifications, *scores.result.classifications]
    assert [[(each.label, each.score) for each in row.classes] for row in rows] == [
        [("car", 0.0), ("bike", 0.0)],
        [("", 2.5)],
        [("", 3.0)],
    ]


def test_regresses(channel: grpc.Channel) -> None:
    spec = {"name": _HALF, "signatureName": "regress_x_to_y"}
    response = call(channel, "Regress", example_request("RegressionRequest", spec, *_X))
    assert [each.value for each in response.result.regressions] == [2.5, 3.0]
    assert response.model_spec == message("ModelSpec", {**spec, "version": 123})


def test_context_is_part_of_every_example(channel: grpc.Channel) -> None:
    spec = {"name": "examples", "signatureName": "regress"}
    ratings = [
        {"features": {"feature": {"ratings": {"floatList": {"value": [n]}}}}} for n in (1, 2)
    ]
    both = {"examples": ratings, "context": {"features": {"feature": _AGE_20}}}
    request = message(
        "RegressionRequest", {"modelSpec": spec, "input": {"exampleListWithContext": both}}
    )
    response = call(channel, "Regress", request)
    assert [each.value for each in response.result.regressions] == [21.0, 22.0]


def _tasks(*tasks: tuple[str, str, str], rows: Sequence[Any] = _X) -> Any:
    """`MultiInferenceRequest` of (model, signature, method without its beginning)."""
    listed = [
        {
            "modelSpec": {"name": model, "signatureName": signature},
            "methodName": f"tensorflow/serving/{method}",
        }
        for model, signature, method in tasks
    ]
    listed_examples = [{"features": {"feature": features}} for features in rows]
    fields = {"tasks": listed, "input": {"exampleList": {"examples": listed_examples}}}
    return message("MultiInferenceRequest", fields)


def test_multi_inference_answers_each_task(channel: grpc.Channel) -> None:
    request = _tasks((_HALF, "regress_x_to_y", "regress"), (_HALF, "classify_x_to_y", "classify"))
    regression, classification = call(channel, "MultiInference", request).results
    assert [each.value for each in regression.regression_result.regressions] == [2.5, 3.0]
    rows = classification.classification_result.classifications
    assert [row.classes[0].score for row in rows] == [2.5, 3.0]
    spec = {"name": _HALF, "version": 123, "signatureName": "classify_x_to_y"}
    assert classification.model_spec == message("ModelSpec", spec)


def test_each_task_of_multi_inference_has_the_time_that_is_left(manager: Manager) -> None:
    looks: list[int] = []

    class Clock(Deadline):
        def left_ms(self) -> int:
            looks.append(60_000 - len(looks))
            return looks[-1]

    request = _tasks((_HALF, "regress_x_to_y", "regress"), (_HALF, "classify_x_to_y", "classify"))
    response = examples.multi_inference(manager, request, lambda _: None, Clock(None))
    assert len(response.results) == 2
    assert looks == [60_000, 59_999]


class _Watched(Manager):
    """A manager that knows in which threads it was asked for a version."""

    def __init__(self, manager: Manager) -> None:
        self._of = manager
        self.threads: list[threading.Thread] = []

    def get(self, spec: ModelSpec) -> Loaded:
        self.threads.append(threading.current_thread())
        return self._of.get(spec)


def _examples_of(request: str, signature: str, rows: int) -> Any:
    spec = {"name": _HALF, "signatureName": signature}
    listed = {"exampleList": {"examples": [{"features": {"feature": _X[0]}}] * rows}}
    return message(request, {"modelSpec": spec, "input": listed})


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Predict", predict_request(_HALF, {"x": [1.0] * _MANY})),
        ("Classify", _examples_of("ClassificationRequest", "classify_x_to_y", _MANY)),
        ("Regress", _examples_of("RegressionRequest", "regress_x_to_y", _MANY)),
        ("MultiInference", _tasks((_HALF, "regress_x_to_y", "regress"), rows=_X)),
        ("MultiInference", _tasks((_HALF, "regress_x_to_y", "regress"), rows=_X * _MANY)),
    ],
)
def test_event_loop_reads_and_runs_nothing_that_may_take_long(
    manager: Manager, method: str, request_: Any
) -> None:
    watched = _Watched(manager)
    with Threads(2, "predictions") as threads:
        services = Services(watched, Settings(), threads)
        answer = services.answer(path_of(method), request_.SerializeToString())
        assert asyncio.run(answer).code == 0
    assert watched.threads
    assert threading.current_thread() not in watched.threads


def test_metadata_lists_every_signature(
    runtime_channel: grpc.Channel, runtime_manager: Manager
) -> None:
    fields = {"modelSpec": {"name": _HALF}, "metadataField": ["signature_def"]}
    response = call(runtime_channel, "GetModelMetadata", message("GetModelMetadataRequest", fields))
    signatures = protos.message("tensorflow.serving.SignatureDefMap")()
    assert response.metadata["signature_def"].Unpack(signatures)
    definitions = runtime_manager.get(ModelSpec(_HALF)).servable.definitions
    assert signatures.signature_def.keys() == definitions.keys()
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == 1
    assert response.model_spec == message("ModelSpec", {"name": _HALF, "version": 123})


def test_status_lists_versions_largest_first(runtime_channel: grpc.Channel) -> None:
    request = message("GetModelStatusRequest", {"modelSpec": {"name": "two_versions"}})
    statuses = call(runtime_channel, "GetModelStatus", request).model_version_status
    available = statuses[0].AVAILABLE
    assert [(each.version, each.state) for each in statuses] == [(2, available), (1, available)]
    assert all(each.HasField("status") and not each.status.error_code for each in statuses)


def test_status_of_a_failed_version_says_why(served: Open, models_dir: Path) -> None:
    model = ModelConfig("warmup_fails", str(models_dir / "warmup_fails"))
    failing = Manager(LocalStore({model.name: model.base_path}), saved_model.load)
    with pytest.raises(Unavailable):
        failing.serve([model])
    request = message("GetModelStatusRequest", {"modelSpec": {"name": "warmup_fails"}})
    with served(manager=failing) as channel:
        [status] = call(channel, "GetModelStatus", request).model_version_status
    assert (status.version, status.state) == (1, status.END)
    assert status.status.error_code == 3  # INVALID_ARGUMENT
    assert "Warm-up record" in status.status.error_message


_CONFIG = {
    "name": "m",
    "basePath": "/models/m",
    "modelPlatform": "tensorflow",
    "modelVersionPolicy": {"specific": {"versions": ["3"]}},
    "versionLabels": {"stable": "3"},
}


_STATUS = message("GetModelStatusRequest", {"modelSpec": {"name": _HALF}})


def _reload_request(*configs: Any) -> Any:
    return message("ReloadConfigRequest", {"config": {"modelConfigList": {"config": configs}}})


def test_reload_hands_the_models_on(served: Open) -> None:
    got: list[Sequence[ModelConfig]] = []
    with served(got.append) as channel:
        response = call(channel, "HandleReloadConfigRequest", _reload_request(_CONFIG))
    assert response.HasField("status")
    assert response.status.error_code == 0
    assert got == [[ModelConfig("m", "/models/m", Specific(frozenset({3})), {"stable": 3})]]


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (
            message("ReloadConfigRequest", {"config": {}}),
            (
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only"
                " ModelConfigList is currently supported"
            ),
        ),
        (
            _reload_request({**_CONFIG, "modelType": "TENSORFLOW"}),
            (
                "Illegal setting both ModelServerConfig::model_type (deprecated) and"
                " ModelServerConfig::model_platform, model name is m. Leave out model_type in the"
                " request"
            ),
        ),
    ],
)
def test_reload_of_anything_but_a_list_of_models_is_refused(
    served: Open, request_: Any, failure: str
) -> None:
    with served() as channel:
        assert _failure(channel, "HandleReloadConfigRequest", request_) == (
            "INVALID_ARGUMENT",
            failure,
        )


def test_reload_that_fails_says_why(served: Open) -> None:
    def fail(_: Sequence[ModelConfig]) -> None:
        raise FailedPrecondition("Request to assign label")

    with served(fail) as channel:
        failure = _failure(channel, "HandleReloadConfigRequest", _reload_request(_CONFIG))
    assert failure == ("FAILED_PRECONDITION", "Request to assign label")


def test_server_whose_models_stay_does_not_reload(channel: grpc.Channel) -> None:
    failure = _failure(channel, "HandleReloadConfigRequest", _reload_request(_CONFIG))
    assert failure == ("UNIMPLEMENTED", "The models served here cannot be replaced by a call")


def _wrong_content() -> Any:
    request = predict_request(_HALF, {"x": [1]})
    request.inputs["x"].tensor_content = b"abc"
    return request


_TWO = "two_versions"
_FAILURES: dict[str, tuple[str, Any, str, str]] = {
    "no spec": (
        "Predict",
        message("PredictRequest", {}),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no spec, classify": (
        "Classify",
        message("ClassificationRequest", {}),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no spec, metadata": (
        "GetModelMetadata",
        message("GetModelMetadataRequest", {}),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no spec, status": (
        "GetModelStatus",
        message("GetModelStatusRequest", {}),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no name": (
        "Predict",
        predict_request("", {}),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "unknown model": (
        "Predict",
        predict_request("foo", {}),
        "NOT_FOUND",
        "Servable not found for request: Latest(foo)",
    ),
    "unknown version": (
        "Predict",
        predict_request(_TWO, {}, version="50"),
        "NOT_FOUND",
        "Servable not found for request: Specific(two_versions, 50)",
    ),
    "unknown label": (
        "Predict",
        predict_request(_TWO, {}, versionLabel="nope"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: nope",
    ),
    "unknown signature": (
        "Predict",
        predict_request(_HALF, {}, signatureName="x"),
        "FAILED_PRECONDITION",
        'Serving signature key "x" not found.',
    ),
    "tensor that is none": (
        "Predict",
        _wrong_content(),
        "INVALID_ARGUMENT",
        "tensor parsing error: x. tensor_content has 3 bytes, float of shape [1] needs 4",
    ),
    "unknown signature, regress": (
        "Regress",
        example_request("RegressionRequest", {"name": _HALF, "signatureName": "x"}, *_X),
        "INVALID_ARGUMENT",
        "No signature was found with the name: x",
    ),
    "no examples": (
        "Regress",
        example_request("RegressionRequest", {"name": _HALF, "signatureName": "regress_x_to_y"}),
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    "no metadata field": (
        "GetModelMetadata",
        message("GetModelMetadataRequest", {"modelSpec": {"name": _HALF}}),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "unknown metadata field": (
        "GetModelMetadata",
        message("GetModelMetadataRequest", {"modelSpec": {"name": _HALF}, "metadataField": ["x"]}),
        "INVALID_ARGUMENT",
        "Metadata field x is not supported",
    ),
    "status of an unknown model": (
        "GetModelStatus",
        message("GetModelStatusRequest", {"modelSpec": {"name": "foo"}}),
        "NOT_FOUND",
        "Could not find any versions of model foo",
    ),
    "status of an unknown version": (
        "GetModelStatus",
        message("GetModelStatusRequest", {"modelSpec": {"name": _TWO, "version": "9"}}),
        "NOT_FOUND",
        "Could not find version 9 of model two_versions",
    ),
    "no tasks": (
        "MultiInference",
        _tasks(),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "tasks of two models": (
        "MultiInference",
        _tasks((_HALF, "regress_x_to_y", "regress"), (_TWO, "regress_x_to_y", "regress")),
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "task without a model": (
        "MultiInference",
        _tasks((_HALF, "regress_x_to_y", "regress"), ("", "regress_x_to_y", "regress")),
        "INVALID_ARGUMENT",
        "Found ModelSpec with an empty model name.",
    ),
    "one signature twice": (
        "MultiInference",
        _tasks((_HALF, "regress_x_to_y", "regress"), (_HALF, "regress_x_to_y", "regress")),
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress_x_to_y",
    ),
    "task of an unknown signature": (
        "MultiInference",
        _tasks((_HALF, "x", "regress")),
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: x",
    ),
    "task of another method": (
        "MultiInference",
        _tasks((_HALF, "regress_x_to_y", "predict")),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "bytes that are no message": (
        "Predict",
        b"\xff",
        "INVALID_ARGUMENT",
        "The request is not a PredictRequest",
    ),
}


@pytest.mark.parametrize("name", _FAILURES)
def test_fails_in_tensorflow_servings_words(channel: grpc.Channel, name: str) -> None:
    method, request, code, text = _FAILURES[name]
    assert _failure(channel, method, request) == (code, text)


def test_failure_of_the_graph_has_its_words_and_code(channel: grpc.Channel) -> None:
    code, text = _failure(channel, "Predict", predict_request("dense", {"x": [[1, 2, 3]]}))
    assert code == "INVALID_ARGUMENT"
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [4,2]" in text


def test_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    method = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun", bytes, bytes)
    with pytest.raises(grpc.RpcError) as raised:
        method(b"")
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


class _BrokenManager(Manager):
    """Fails as nobody foresaw."""

    def get(self, spec: ModelSpec) -> Loaded:
        assert spec
        raise ZeroDivisionError("secret")


def test_unforeseen_failure_is_internal_without_details(
    served: Open, caplog: pytest.LogCaptureFixture
) -> None:
    broken = _BrokenManager(LocalStore({}), saved_model.load)
    with served(manager=broken) as channel, caplog.at_level(logging.ERROR):
        failure = _failure(channel, "Predict", predict_request(_HALF, {"x": [1]}))
    assert failure == ("INTERNAL", "The server failed on this request. Its log has the reason.")
    assert "ZeroDivisionError: secret" in caplog.text


def test_message_over_the_limit_is_refused_also_when_it_is_zipped(served: Open) -> None:
    with served(grpc_max_message_bytes=10_000) as channel:
        fits = predict_request(_HALF, {"x": np.zeros(2000, np.float32)})
        assert arrays(call(channel, "Predict", fits))["y"].tolist() == [2.0] * 2000
        assert call(channel, "Predict", fits, compression=grpc.Compression.Gzip).outputs
        large = predict_request(_HALF, {"x": np.zeros(3000, np.float32)})
        for compression in grpc.Compression:
            code, _ = _failure(channel, "Predict", large, compression=compression)
            assert code == "RESOURCE_EXHAUSTED"


def test_short_message_cannot_ask_for_a_large_array(channel: grpc.Channel) -> None:
    request = predict_request(_HALF, {"x": [1]})
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 40
    code, text = _failure(channel, "Predict", request)
    assert code == "INVALID_ARGUMENT"
    assert "over the limit" in text


def test_deadline_of_the_client_ends_the_run(served: Open) -> None:
    with served() as channel:  # whose end waits for the run
        request = predict_request("while_loop", {"x": _ENDLESS})
        code, _ = _failure(channel, "Predict", request, timeout=0.5)
    assert code == "DEADLINE_EXCEEDED"


def test_calls_in_flight_finish_and_no_more_are_taken(manager: Manager, tmp_path: Path) -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow(_: Sequence[ModelConfig]) -> None:
        began.set()
        assert may_end.wait(300)

    server, path = ExitStack(), str(tmp_path / "socket")
    server.enter_context(serving(manager, Settings(port=0, grpc_socket_path=path), slow))
    with ThreadPoolExecutor(2) as pool, grpc.insecure_channel(f"unix:{path}") as channel:
        replacing = pool.submit(
            call, channel, "HandleReloadConfigRequest", _reload_request(_CONFIG)
        )
        assert began.wait(300)
        stopping = pool.submit(server.close)
        while _is_answered(channel):
            pass
        assert not stopping.done()
        may_end.set()
        assert replacing.result(300).HasField("status")
        stopping.result(300)


def _is_answered(channel: grpc.Channel) -> bool:
    try:
        call(channel, "GetModelStatus", _STATUS)
    except grpc.RpcError:
        return False
    return True


def _health(channel: grpc.Channel, service: str) -> Any:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return check(health_pb2.HealthCheckRequest(service=service))


def test_health_is_served_by_flag(served: Open) -> None:
    with served(enable_grpc_healthcheck_service=True) as channel:
        for service in ("", "ModelService", "PredictionService"):
            status = _health(channel, service).status
            assert status == health_pb2.HealthCheckResponse.SERVING


def test_health_is_not_served_without_the_flag(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        _health(channel, "")
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_channel_arguments_reach_the_server_and_win(served: Open) -> None:
    arguments = "grpc.max_receive_message_length=100,grpc.primary_user_agent=ours"
    with served(grpc_channel_arguments=arguments) as channel:
        request = predict_request(_HALF, {"x": np.zeros(2000, np.float32)})
        assert _failure(channel, "Predict", request)[0] == "RESOURCE_EXHAUSTED"


def test_channel_argument_without_a_value_is_reported(served: Open) -> None:
    with pytest.raises(InvalidArgument, match="has 'oops'"), served(grpc_channel_arguments="oops"):
        pass


def test_socket_that_cannot_be_made_is_reported(manager: Manager) -> None:
    settings = Settings(port=0, grpc_socket_path="/nowhere/at/all")
    with pytest.raises(NotFound, match="/nowhere/at/all"), serving(manager, settings):
        pass
