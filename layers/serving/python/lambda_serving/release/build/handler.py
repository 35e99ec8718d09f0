"""The build function: takes an order for an image and writes the release record.

Failures that are not the model's fault, such as a store that does not answer, are raised: Lambda
retries an asynchronous invocation after one and two minutes.
"""

import ctypes
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lambda_serving.compile.isolated import Outcome
from lambda_serving.compile.runtimes import AUTO, CHOICES, TENSORFLOW
from lambda_serving.errors import (
    Aborted,
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from lambda_serving.image import Registry, open_client
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws import images
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Builder, Order
from lambda_serving.release.aws.clients import Account, connect
from lambda_serving.release.aws.deployed_model import Releases
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.build.image_builder import RegistryBuilder
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.store import temporary
from lambda_serving.store.completeness import Incomplete
from lambda_serving.store.s3_store import S3Store

__all__ = ["build", "start"]

_NEEDED = ("SYSTEM", "MODELS", "MODEL_ROLE")
_log = logging.getLogger(__name__)

_NOT_THE_MODELS_FAULT = (Unavailable, PermissionDenied)
_ATTEMPTS = 5
_MARGIN_SECONDS = 120.0
"""Kept for the steps after compiling: gigabytes go to the registry at some 50 MB/s."""
_PR_SET_DUMPABLE = 4


def build(
    order: Order, builder: Builder, releases: Releases, report: Callable[[ServableId, str], None]
) -> None:
    """Builds the image and records its digest, or reports and records why there can be none.

    Lambda delivers some orders twice or late. An order is void if the version's record or files
    have changed since it was given: it changes nothing, and the log says so.

    Raises Unavailable and PermissionDenied for failures that a retry may fix. A version that lacks
    files is not one of them: its release begins only when all have arrived.
    """
    if _unfinished(order, releases) is None:
        return
    started = time.monotonic()
    record = Record(order.content, order.bases.digests)
    try:
        image = builder.build(order)
    except ServingError as error:
        if isinstance(error, _NOT_THE_MODELS_FAULT) and not isinstance(error, Incomplete):
            raise
        record = replace(record, error=f"{error}{_help(error)}")
    else:
        seconds = {"build": round(time.monotonic() - started, 3)}
        record = replace(record, image=image, seconds=seconds)
    _conclude(order, record, releases, report)


def _conclude(
    order: Order, outcome: Record, releases: Releases, report: Callable[[ServableId, str], None]
) -> None:
    """Reports and records an outcome, unless the order became void while its image was built.

    The record may change in between, because the release function notes that it gave the order.
    """
    before = _unfinished(order, releases)
    if before and outcome.error is not None:
        report(order.servable, outcome.error)
    for _ in range(_ATTEMPTS):
        if before is None:
            return
        try:
            releases.record(order.version, replace(outcome, tag=before.tag))
        except Aborted:
            before = _unfinished(order, releases)
        else:
            return
    raise Unavailable(f"Could not record {order.servable}: others keep changing its record")


def _unfinished(order: Order, releases: Releases) -> Record | None:
    """The record that lacks the outcome of an order; None if the order is void."""
    record = releases.records([order.version]).get(order.version)
    if not order.is_open(record):
        _log.warning("%s: nothing to do, its record was written since this order", order.servable)
    elif releases.versions().complete.get(order.version) != order.content:
        _log.warning("%s: nothing to do, its files changed since this order", order.servable)
    else:
        return record or Record(order.content, order.bases.digests)
    return None


def _help(error: ServingError) -> str:
    """How to give the function more of what it lacks; empty for other errors."""
    match error:
        case DiskFull():
            parameter = "BuildEphemeralStorage"
        case ResourceExhausted():
            parameter = "BuildMemorySize"
        case DeadlineExceeded():
            return (
                ". Compile it on a machine without a time limit (lambda-serving compile), and push"
                " the result as the next version"
            )
        case _:
            return ""
    return f". Deploy with a larger {parameter} and delete this version's record, to try it again"


def start(environ: Mapping[str, str]) -> Callable[[Any, Any], None]:
    """The handler of the build function.

    MODELS is the folder of the models, `s3://BUCKET/PREFIX`. MODEL_ROLE is a role that may build
    only the model in its session's tag: the whole order is carried out in that role, because the
    model's graph runs meanwhile. SYSTEM is the stack's name. RUNTIME, `auto` unless it is set, is
    what models are compiled for, as in `lambda-serving compile --runtime`.

    Raises InvalidArgument for an environment that lacks one of these, or names no such runtime.
    """
    if missing := [name for name in _NEEDED if not environ.get(name)]:
        raise InvalidArgument(f"The build function's environment lacks {', '.join(missing)}")
    runtime = _runtime(environ)
    models, role = environ["MODELS"], environ["MODEL_ROLE"]
    logging.getLogger("lambda_serving").setLevel(logging.INFO)
    [sts] = connect("sts")
    libraries = [path for path in environ.get("OP_LIBRARIES", "").split(",") if path]

    if "AWS_LAMBDA_RUNTIME_API" in environ:
        _keep_to_itself()

    def handler(event: Any, context: Any) -> None:
        order = Order.of(event)
        base_path = f"{models}/{order.name}"
        narrow = Account.of_model(role, order.name, sts)
        bucket, events = narrow.connect("s3", "events")
        with temporary.folder() as downloads, open_client() as http:
            builder = RegistryBuilder(
                lambda *bases: Registry(http, images.passwords(*bases, account=narrow)),
                S3Store({order.name: base_path}, downloads, bucket),
                libraries,
                max(0, context.get_remaining_time_in_millis() / 1000 - _MARGIN_SECONDS),
                _tell,
                runtime,
            )
            report = Reporter(environ["SYSTEM"], events)
            build(order, builder, BucketReleases(base_path, bucket), report)

    return handler


def _runtime(environ: Mapping[str, str]) -> str:
    runtime = environ.get("RUNTIME") or AUTO
    if runtime not in CHOICES:
        raise InvalidArgument(f"RUNTIME is {runtime!r}. Set it to one of {', '.join(CHOICES)}")
    return runtime


def _keep_to_itself() -> None:
    """Hides the memory and the environment of this process from others of the same user.

    One of those is the process that compiles: it runs the model's graph (prctl(2),
    PR_SET_DUMPABLE).
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _tell(servable: ServableId, outcome: Outcome) -> None:
    became = f"left as it is: {outcome.reason}" if outcome.reason else "compiled"
    became += f" for {outcome.runtime}" if outcome.runtime != TENSORFLOW else ""
    _log.info("%s: %s; seconds: %s", servable, became, dict(outcome.seconds))
