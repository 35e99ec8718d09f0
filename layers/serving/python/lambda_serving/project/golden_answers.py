"""What models answer through the handler that Lambda calls, and golden pairs made of it.

Golden pairs are those of `release.golden`, in `assets.extra/golden.jsonl` of a version's folder;
`push` and releases check them too.
"""

import base64
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from lambda_serving.compile.samples import draw
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.startup import open_manager
from lambda_serving.dtypes import Array
from lambda_serving.function.handler import Handler
from lambda_serving.model_spec import ModelSpec
from lambda_serving.project.folder import Model
from lambda_serving.release import golden
from lambda_serving.release.golden import GOLDEN
from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Servable
from lambda_serving.servables.warmup import recorded
from lambda_serving.store import temporary

__all__ = ["Unrecorded", "asked", "differences", "record"]

_MOST_BYTES = 2**20
_LOG = logging.getLogger("lambda_serving")
_WORDS = (b"the", b"unheard-of")
_CONTEXT = SimpleNamespace(aws_request_id="test", invoked_function_arn="")
_Ask = Callable[[str], Any]


class Unrecorded(Exception):
    """A model whose golden pair cannot be made; the message says why."""


def differences(model: Model) -> list[str]:
    """How a model's answers differ from its golden pairs: nothing, or a sentence.

    The newest version is asked, which is the one that its image serves. A model without golden
    pairs is loaded only. Raises what loading it and `golden.read` raise.
    """
    versions = model.versions()
    folder = versions[max(versions)]
    with asked(model.name, model.folder) as (ask, _):
        told = golden.check(_pairs(folder), ask)
    return [f"{folder / GOLDEN}, {told}"] if told else []


def record(name: str, base_path: Path, version: Path) -> None:
    """Writes a golden pair for the version in a folder, the newest one of its base path.

    The request is one of the warm-up requests, or made up from the signature. Raises Unrecorded if
    none is answered, or not twice in the same way.
    """
    with asked(name, base_path) as (ask, servable):
        pair = _pair(ask, _requests(servable, version))
    path = version / GOLDEN
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{pair}\n", encoding="utf-8")


@contextmanager
def asked(name: str, base_path: Path) -> Iterator[tuple[_Ask, Servable]]:
    """A function that sends a body of predict through the handler, and the servable that answers.

    What the handler writes for CloudWatch is dropped. Raises what loading raises.
    """
    settings = Settings(model_name=name, model_base_path=str(base_path.absolute()))
    models = settings.models()
    with temporary.folder() as downloads:
        manager = open_manager(settings, models, downloads)
        manager.serve(models)
        try:
            level = _LOG.level
            handler = Handler(manager, settings)
            _LOG.setLevel(level)  # which the handler lowers for Lambda

            def ask(request: str) -> Any:
                with redirect_stdout(io.StringIO()):
                    return handler(json.loads(request), cast("Any", _CONTEXT))

            yield ask, manager.get(ModelSpec(name)).servable
        finally:
            manager.close()


def _pairs(version: Path) -> list[golden.Pair]:
    path = version / GOLDEN
    return golden.read(path.read_bytes(), path) if path.is_file() else []


def _pair(ask: _Ask, requests: Iterator[str]) -> str:
    """The first request that is answered twice in the same way, with the answer, as a line."""
    why = "there is no request to make up for its signature"
    for request in requests:
        answer = ask(request)
        line = json.dumps({"request": json.loads(request), "response": answer})
        if "error" in answer:
            why = f"it refuses a request that was made up: {answer['error']}"
        elif len(line) > _MOST_BYTES:
            why = "a request with its answer is larger than 1 MiB"
        elif told := golden.check(golden.read(line.encode(), "the pair"), ask):
            raise Unrecorded(f"it does not answer the same request in the same way: {told}")
        else:
            return line
    raise Unrecorded(why)


def _requests(servable: Servable, version: Path) -> Iterator[str]:
    """Bodies of predict for the default signature, or the only one: warm-up requests first."""
    names = [*servable.signatures]
    wanted = names[0] if len(names) == 1 else DEFAULT_SIGNATURE
    if wanted not in names:
        return
    inputs: list[Mapping[str, Array]] = [
        each for name, each in recorded(servable, version) if name == wanted
    ]
    inputs += draw(servable.signatures[wanted], (), _WORDS)
    named = {} if wanted == DEFAULT_SIGNATURE else {"signature_name": wanted}
    for each in inputs:
        try:
            body = named | {"inputs": {name: _json(array) for name, array in each.items()}}
            yield json.dumps(body)
        except (TypeError, ValueError):  # complex numbers have no JSON
            continue


def _json(value: Any) -> Any:
    """An array as JSON has it; floats are short, as a request need not be exact."""
    match value:
        case np.ndarray() if value.ndim:
            return [_json(each) for each in value]
        case np.ndarray() | np.generic():
            return _json(value.item())
        case float():
            return float(f"{value:.3g}")
        case bytes():
            return _text(value)
    return value


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
