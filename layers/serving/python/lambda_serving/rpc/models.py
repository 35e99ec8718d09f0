"""What is asked of models beside predictions: which one, its state, its signatures, other ones."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambda_serving import model_config, protos
from lambda_serving.errors import Code, InvalidArgument
from lambda_serving.manager import Loaded, Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.model_spec import ModelSpec

__all__ = ["loaded", "metadata", "replace", "status"]

_log = logging.getLogger(__name__)
_SIGNATURES = "signature_def"


def loaded(manager: Manager, request: Any) -> Loaded:
    """The loaded version that a request's `model_spec` means.

    Raises InvalidArgument for none or one without a name, in the words of
    model_servers/server_core.cc, and as `Manager.get` does.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    match spec.WhichOneof("version_choice"):
        case "version":
            return manager.get(ModelSpec(spec.name, version=spec.version.value))
        case "version_label":
            return manager.get(ModelSpec(spec.name, label=spec.version_label))
        case _:
            return manager.get(ModelSpec(spec.name))


def status(manager: Manager, request: Any) -> Any:
    """`GetModelStatusResponse`; a label plays no part (model_servers/get_model_status_impl.cc)."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    response = protos.message("tensorflow.serving.GetModelStatusResponse")()
    for each in manager.statuses(spec.name, version):
        line = response.model_version_status.add(version=each.version)
        line.state = line.State.Value(each.state.value)
        line.status.error_code = Code[each.error_code] if each.error else 0
        line.status.error_message = str(each.error or "")
    return response


def metadata(manager: Manager, request: Any) -> Any:
    """`GetModelMetadataResponse` (servables/tensorflow/get_model_metadata_impl.cc)."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != _SIGNATURES:
            raise InvalidArgument(f"Metadata field {name} is not supported")
    found = loaded(manager, request)
    signatures = protos.message("tensorflow.serving.SignatureDefMap")()
    for name, definition in found.servable.definitions.items():
        signatures.signature_def[name].MergeFromString(definition)
    response = protos.message("tensorflow.serving.GetModelMetadataResponse")()
    response.model_spec.name = found.id.name
    response.model_spec.version.value = found.id.version
    response.metadata[_SIGNATURES].Pack(signatures)
    return response


def replace(
    use: Callable[[Sequence[ModelConfig]], None],
    request: Any,
    counters: Callable[[], Mapping[str, int]] | None = None,
) -> Any:
    """`ReloadConfigResponse` once `use` has made a request's models those that are served.

    With `counters` it tells by how much those grew that the request names, 0 for unknown ones.
    Raises InvalidArgument for anything but a list of models that a server may serve, and what
    `use` raises (model_servers/model_service_impl.cc).
    """
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    models = model_config.of_message(request.config, "the request")
    model_config.check(models)
    for model in models:
        _log.info("Asked to serve %s of %s", model.name, model.base_path)
    before = counters() if counters else {}
    use(models)
    response = protos.message("tensorflow.serving.ReloadConfigResponse")()
    response.status.error_code = 0
    if counters:
        after = counters()
        for name in dict.fromkeys(request.metric_names):
            increase = after.get(name, 0) - before.get(name, 0)
            response.metric.add(name=name, int64_value_increase=increase)
    return response
