"""OpenAPI paths of the loaded models, with example bodies made from their signatures."""

from collections.abc import Mapping, Sequence
from typing import Any

from lambda_serving.core.basic_manager import Loaded
from lambda_serving.dtypes import DType
from lambda_serving.servables.servable import Servable, Signature, TensorSpec

__all__ = ["paths"]

_JSON = "application/json"
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_LARGEST_EXAMPLE = 1024  # elements; the example of a larger tensor is shorter


def paths(models: Mapping[str, Sequence[Loaded]]) -> dict[str, Any]:
    """Path items for every loaded model, its versions and labels."""
    found: dict[str, Any] = {}
    for name, versions in models.items():
        servable = versions[0].servable
        model = f"/v1/models/{name}"
        for path, parameters in (
            (model, []),
            (model + "/versions/{version}", [_parameter("version", versions[0].id.version)]),
            (model + "/labels/{label}", [_parameter("label", "stable")]),
        ):
            found |= _model_paths(path, parameters, name, servable)
    return found


def _model_paths(path: str, parameters: list[Any], name: str, servable: Servable) -> dict[str, Any]:
    def item(method: str, summary: str, answer: Any, body: Any = None) -> dict[str, Any]:
        operation = {
            "tags": [name],
            "summary": summary,
            "parameters": parameters,
            "responses": _responses(answer),
        }
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {_JSON: body}}
        return {method: operation}

    return {
        path: item("get", "State of the loaded versions", {"type": "object"}),
        f"{path}/metadata": item("get", "Signatures", {"type": "object"}),
        f"{path}:predict": item("post", "Predict", _PREDICTIONS, _predict_body(servable)),
        f"{path}:classify": item("post", "Classify", _RESULTS, _examples_body()),
        f"{path}:regress": item("post", "Regress", _RESULTS, _examples_body()),
    }


_PREDICTIONS = {
    "oneOf": [
        {"type": "object", "properties": {"predictions": {}}, "required": ["predictions"]},
        {"type": "object", "properties": {"outputs": {}}, "required": ["outputs"]},
    ]
}
_RESULTS = {"type": "object", "properties": {"results": {"type": "array"}}, "required": ["results"]}


def _parameter(name: str, example: object) -> dict[str, Any]:
    kind = "integer" if isinstance(example, int) else "string"
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": kind},
        "example": example,
    }


def _responses(schema: Any) -> dict[str, Any]:
    statuses = {
        "400": "The request is wrong; the error says where",
        "404": "No such model or version is loaded",
        "413": "The body is over a limit",
        "504": "The run of the graph took too long",
    }
    answers: dict[str, Any] = {"200": {"description": "OK", "content": {_JSON: {"schema": schema}}}}
    for status, description in statuses.items():
        answers[status] = {"description": description, "content": {_JSON: {"schema": _ERROR}}}
    return answers


def _predict_body(servable: Servable) -> dict[str, Any]:
    return {
        "schema": {
            "type": "object",
            "properties": {
                "signature_name": {"type": "string"},
                "instances": {"type": "array"},
                "inputs": {},
            },
        },
        "examples": {
            f"{signature.name}, {form}": {"value": value}
            for signature in servable.signatures.values()
            for form, value in _predict_examples(signature).items()
        },
    }


def _predict_examples(signature: Signature) -> dict[str, Any]:
    """A row request and a columnar one with the same values."""
    named = len(signature.inputs) != 1
    rows = {name: _example(spec, batched=True) for name, spec in signature.inputs.items()}
    columns = {name: [row] for name, row in rows.items()}
    head = {"signature_name": signature.name}
    return {
        "rows": {**head, "instances": [rows if named else next(iter(rows.values()))]},
        "columns": {**head, "inputs": columns if named else next(iter(columns.values()))},
    }


def _example(spec: TensorSpec, *, batched: bool) -> Any:
    """A value of the spec's shape, without its first dimension if batched; free sizes become 1."""
    sizes = [1 if size is None else size for size in (spec.shape or ())[1 if batched else 0 :]]
    value: Any = {DType.STRING: "text", DType.BOOL: True}.get(spec.dtype, 1)
    count = 1
    for size in reversed(sizes):
        count *= size
        value = [value] * (size if count <= _LARGEST_EXAMPLE else 1)
    return value


def _examples_body() -> dict[str, Any]:
    return {
        "schema": {
            "type": "object",
            "properties": {
                "signature_name": {"type": "string"},
                "context": {"type": "object"},
                "examples": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["examples"],
        },
        "example": {"examples": [{"feature": 1.0}]},
    }
