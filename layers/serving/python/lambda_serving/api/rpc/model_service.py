"""Which model a request means, the states and signatures of models, and replacing them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambda_serving import protos
from lambda_serving.config import model_server_config
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.errors import Code, InvalidArgument
from lambda_serving.model_spec import ModelSpec

__all__ = ["loaded", "metadata", "narrow", "replace", "status"]

_log = logging.getLogger(__name__)
_SIGNATURES = "signature_def"


def loaded(manager: Manager, request: Any) -> Loaded:
    """The loaded version that a request's `model_spec` means.

    Raises InvalidArgument if it has no spec or no name, in the words of
    model_servers/server_core.cc, and what `Manager.get` raises.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    if not request.model_spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return manager.get(_asked(request.model_spec))


def narrow(request: Any, model: ModelSpec) -> None:
    """Writes the version or label in the address of a call into its request.

    Raises InvalidArgument if the request names another model, version or label. A request that
    names no model stays as it is, and `loaded` refuses it.
    """
    for spec in _specs(request):
        asked = _asked(spec)
        if asked.name != model.name:
            raise InvalidArgument(
                f"The request asks for model {asked.name}, its address is that of {model.name}"
            )
        if asked == ModelSpec(model.name):
            if model.version is not None:
                spec.version.value = model.version
            elif model.label is not None:
                spec.version_label = model.label
        elif model not in {asked, ModelSpec(model.name)}:
            raise InvalidArgument(
                f"The request asks for {_words(asked)} of model {model.name}, its address is that"
                f" of {_words(model)}; leave it out of the request"
            )


def _specs(request: Any) -> list[Any]:
    """The specs of a request that name a model."""
    holders = request.tasks if hasattr(request, "tasks") else [request]
    specs = [holder.model_spec for holder in holders if hasattr(holder, "model_spec")]
    return [spec for spec in specs if spec.name]


def _asked(spec: Any) -> ModelSpec:
    match spec.WhichOneof("version_choice"):
        case "version":
            return ModelSpec(spec.name, version=spec.version.value)
        case "version_label":
            return ModelSpec(spec.name, label=spec.version_label)
        case _:
            return ModelSpec(spec.name)


def _words(model: ModelSpec) -> str:
    return f"version {model.version}" if model.label is None else f"label {model.label}"


def status(manager: Manager, request: Any) -> Any:
    """`GetModelStatusResponse`; a label is ignored (model_servers/get_model_status_impl.cc)."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    response = protos.message("tensorflow.serving.GetModelStatusResponse")()
    for each in manager.states.of(spec.name, version):
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
    """`ReloadConfigResponse` once `use` has made the models of a request those that are served.

    With `counters`, it has the increase of each counter that the request names, 0 for unknown ones.
    Raises InvalidArgument for anything but a list of models, and what `use` raises
    (model_servers/model_service_impl.cc).
    """
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    models = model_server_config.of_message(request.config, "the request")
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
