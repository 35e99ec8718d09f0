"""A folder with a SavedModel to a `Servable`."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lambda_serving import signature_defs
from lambda_serving.errors import DataLoss, FailedPrecondition, ServingError, Unavailable
from lambda_serving.servable import DEFAULT_SIGNATURE, Servable, Signature
from lambda_serving.tensorflow_c.session import Session, load_session
from lambda_serving.tensorflow_c.variables import uninitialized_variables
from lambda_serving.warmup import warm_up as run_warm_up

__all__ = ["load"]

_log = logging.getLogger(__name__)


def load(
    path: str | Path,
    *,
    tags: Sequence[str] = ("serve",),
    session_config: bytes = b"",
    warm_up: bool = True,
    warm_up_iterations: int = 1,
    cache: Path | None = None,
) -> Servable:
    """The servable of the SavedModel in `path`, restored as TensorFlow Serving restores it.

    `tags` choose the meta graph; `session_config` is a serialized `tensorflow.ConfigProto`.
    `warm_up` runs the export's warm-up requests, each `warm_up_iterations` times. An export that
    only its object graph restores is made loadable first and kept in `cache` (see
    `object_graph`). Problems that do not hinder loading are logged as warnings, with their fix.

    Raises NotFound, DataLoss, InvalidArgument or what else TensorFlow says of the export, and
    what a failing warm-up request raises.
    """
    path = Path(path)
    try:
        with ExitStack() as on_failure:
            servable = _servable(*_open(path, tags, session_config, cache))
            on_failure.callback(servable.close)
            if warm_up:
                run_warm_up(servable, path, warm_up_iterations)
            on_failure.pop_all()
    except ServingError as error:
        raise type(error)(f"Could not load the SavedModel in {path}: {error}") from error
    except OSError as error:
        raise Unavailable(f"Could not load the SavedModel in {path}: {error}") from error
    for problem in servable.problems:
        _log.warning("%s: %s", path, problem)
    return servable


def _problems(signatures: Iterable[Signature]) -> list[str]:
    """What is likely to trouble callers of these signatures, each a sentence with the fix."""
    by_name = {signature.name: signature for signature in signatures}
    found = [
        f"input {name!r} of signature {signature.name!r} takes only {spec.shape[0]} rows at"
        " once, often the batch size of its training. model.export(path) keeps it free"
        for signature in by_name.values()
        for name, spec in signature.inputs.items()
        if spec.shape and spec.shape[0] is not None
    ]
    if DEFAULT_SIGNATURE not in by_name:
        found.append(
            f"there is no signature {DEFAULT_SIGNATURE!r}: every request must name its signature"
            f" ({', '.join(map(repr, sorted(by_name))) or 'there are none'})"
        )
    return found


def _open(
    path: Path, tags: Sequence[str], config: bytes, cache: Path | None
) -> tuple[Session, dict[str, bytes], list[str]]:
    """A session in which every variable that a signature reads has a value.

    With it the definitions of the signatures, and what had to be mended.
    """
    session, definitions, unset = _restore(path, tags, config)
    if not unset:
        return session, definitions, []
    session.close()
    if not (path / "variables" / "variables.index").exists():
        raise DataLoss(
            f"variables/variables.index is missing, but the graph reads {len(unset)} variables."
            " The export was copied in part: copy it again"
        )
    from lambda_serving.object_graph import loadable_copy  # few exports need it

    problem = (
        f"the graph restore leaves the variables {', '.join(unset)} without a value, so"
        " TensorFlow Serving cannot serve this export. Here its object graph is used, which took"
        " a start of TensorFlow once. Export with model.export(path)"
    )
    session, definitions, unset = _restore(loadable_copy(path, tags, cache), ("serve",), config)
    if unset:
        session.close()
        raise FailedPrecondition(
            f"Neither the graph nor the object graph restores the variables {', '.join(unset)}"
        )
    return session, definitions, [problem]


def _restore(
    path: Path, tags: Sequence[str], config: bytes
) -> tuple[Session, dict[str, bytes], list[str]]:
    """A session, its signatures, and the variables they read that it left without a value."""
    session, meta_graph = load_session(str(path), tags, config)
    definitions = signature_defs.definitions(meta_graph)
    outputs = {
        spec.tensor_name
        for signature in signature_defs.signatures(definitions).values()
        for spec in signature.outputs.values()
    }
    return session, definitions, uninitialized_variables(session, sorted(outputs))


def _servable(
    session: Session, definitions: Mapping[str, bytes], problems: Sequence[str]
) -> Servable:
    signatures = signature_defs.signatures(definitions)
    functions = {
        name: session.function(
            [spec.tensor_name for spec in signature.inputs.values()],
            [spec.tensor_name for spec in signature.outputs.values()],
        )
        for name, signature in signatures.items()
    }
    return Servable(
        signatures,
        functions,
        definitions=definitions,
        problems=[*problems, *_problems(signatures.values())],
        close=session.close,
    )
