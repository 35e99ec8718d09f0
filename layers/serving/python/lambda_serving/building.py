"""What Lambda calls to have an image built: the order in, the release record out.

What is no fault of the model, such as a store that does not answer, is raised: Lambda tries an
asynchronous invocation again after one and two minutes.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lambda_serving import temporary
from lambda_serving.builder import RegistryBuilder
from lambda_serving.compile.report import Report
from lambda_serving.errors import InvalidArgument, PermissionDenied, ServingError, Unavailable
from lambda_serving.image import Registry, open_client
from lambda_serving.model_spec import ServableId
from lambda_serving.release import images
from lambda_serving.release.aws import connect
from lambda_serving.release.bucket import BucketReleases
from lambda_serving.release.build import Builder, Order
from lambda_serving.release.deployment import Record
from lambda_serving.release.gateway import Releases
from lambda_serving.release.report import Reporter
from lambda_serving.store import open_store

__all__ = ["build", "start"]

_log = logging.getLogger(__name__)


def build(
    order: Order,
    builder: Builder,
    releases: Releases,
    report: Callable[[ServableId, str], None],
) -> None:
    """Builds the image and records its digest, or why there can be none, which is reported.

    Raises Unavailable and PermissionDenied for what another try may mend.
    """
    started = time.monotonic()
    record = Record(order.content, order.base.partition("@")[2])
    try:
        image = builder.build(order)
    except (Unavailable, PermissionDenied):
        raise
    except ServingError as error:
        report(order.servable, str(error))
        record = replace(record, error=str(error))
    else:
        seconds = {"build": round(time.monotonic() - started, 3)}
        record = replace(record, image=image, seconds=seconds)
    releases.record(order.version, record)


def start(environ: Mapping[str, str]) -> Callable[[Any, Any], None]:
    """The handler of the build function; raises InvalidArgument for an environment without MODELS.

    MODELS is where the models lie, `s3://BUCKET/PREFIX`, SYSTEM the stack's name.
    """
    if not (models := environ.get("MODELS")):
        raise InvalidArgument("The build function's environment lacks MODELS, s3://BUCKET/PREFIX")
    logging.getLogger("lambda_serving").setLevel(logging.INFO)
    report = Reporter(environ.get("SYSTEM", ""), *connect("events"))
    libraries = [path for path in environ.get("OP_LIBRARIES", "").split(",") if path]

    def handler(event: Any, _: Any) -> None:
        order = Order.of(event)
        base_path = f"{models}/{order.name}"
        with (
            temporary.folder() as downloads,
            open_client() as http,
        ):
            builder = RegistryBuilder(
                lambda base: Registry(http, images.passwords(base)),
                open_store({order.name: base_path}, downloads),
                libraries,
                _tell,
            )
            build(order, builder, BucketReleases(base_path), report)

    return handler


def _tell(servable: ServableId, compiled: Report) -> None:
    outcome = f"left as it is: {compiled.reason}" if compiled.reason else "compiled"
    _log.info("%s: %s; seconds: %s", servable, outcome, dict(compiled.seconds))
