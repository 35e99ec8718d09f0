"""TensorFlow Serving's own stubs against a server: `python stubs_client.py HOST:PORT`.

A client as its users have it, with none of our code; it ends with 0 when every answer is right.
It wants models `half_plus_two` and `examples` of `build_models.py`.
"""

import sys

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        _predict(prediction)
        _infer(prediction)
        _ask_about(prediction, model_service_pb2_grpc.ModelServiceStub(channel))


def _predict(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = "serving_default"
    array = np.linspace(0, 1, 100, dtype=np.float32)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    response = stub.Predict(request, timeout=300)
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["y"]), array / 2 + 2)
    np.testing.assert_allclose(response.outputs["y"].float_val, array / 2 + 2)
    assert response.model_spec.version.value == 123
    request.model_spec.name = "foo"
    try:
        stub.Predict(request, timeout=300)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error.details() == "Servable not found for request: Latest(foo)"
    else:
        raise AssertionError("a model that is not there answered")


def _infer(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    classification = classification_pb2.ClassificationRequest()
    classification.model_spec.name = "examples"
    example = classification.input.example_list.examples.add()
    example.features.feature["age"].int64_list.value.append(20)
    [row] = stub.Classify(classification, timeout=300).result.classifications
    assert [each.label for each in row.classes] == ["car", "bike", "bus"]

    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name = "half_plus_two"
    regression.model_spec.signature_name = "regress_x_to_y"
    example = regression.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(1.0)
    response = stub.Regress(regression, timeout=300)
    assert [each.value for each in response.result.regressions] == [2.5]

    multi = inference_pb2.MultiInferenceRequest(input=regression.input)
    multi.tasks.add(model_spec=regression.model_spec, method_name="tensorflow/serving/regress")
    [result] = stub.MultiInference(multi, timeout=300).results
    assert [each.value for each in result.regression_result.regressions] == [2.5]


def _ask_about(
    prediction: prediction_service_pb2_grpc.PredictionServiceStub,
    model: model_service_pb2_grpc.ModelServiceStub,
) -> None:
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half_plus_two"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    prediction.GetModelMetadata(metadata).metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "half_plus_two"
    [version] = model.GetModelStatus(status).model_version_status
    assert (version.version, version.state) == (123, version.AVAILABLE)

    try:
        model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    else:
        raise AssertionError("no models at all were taken for a list of models")


if __name__ == "__main__":
    main()
