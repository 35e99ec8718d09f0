"""The requests to S3 in an hour without a push: `python idle.py MODELS VERSIONS`.

Each model has VERSIONS versions, released one after another; stand-ins report that images are
built and that functions answer. Then each model is looked at once, as on schedule, by a release
function that just started. Prints a line of JSON: the requests by operation.
"""

import json
import logging
import sys
from collections import Counter
from typing import Any

from botocore.model import OperationModel

from benchmarks.children import MNIST
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.build.handler import build
from lambda_serving.store.manifest import MANIFEST, Manifest
from lambda_serving.store.push_target import open_version
from support import cloud
from support.aws_plane import Plane
from support.cloud import SYSTEM, Cloud

_REPOSITORY = "registry.example/models"
_EXPORT = MNIST / "saved/1"


class _Images:
    """Builds no image, and returns a digest."""

    elsewhere = False

    def build(self, order: Order) -> str:
        return f"sha256:{order.name}-{order.version}"


class _Asked(logging.Handler):
    """Counts the calls to S3 in botocore's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.operations = Counter[str]()

    def emit(self, record: logging.LogRecord) -> None:
        match record.args:
            case (OperationModel() as operation, _) if operation.service_model.service_name == "s3":
                self.operations[operation.name] += 1


def main(models: int, versions: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    names = [f"model-{number}" for number in range(models)]
    plane = Plane(run=lambda *_: {"statusCode": 200}, looks=0)
    with cloud.moto() as endpoint, cloud.running(plane, endpoint) as deployed:
        _deploy(deployed, names)
        for version in range(1, 1 + versions):
            for name in names:
                _push(f"{deployed.models}/{name}/{version}")
            deployed.settle()
        before = [deployed.live(name) for name in names]
        asked = _an_hour(deployed, names)
        assert before == [versions] * models == [deployed.live(name) for name in names]
    sys.stdout.write(json.dumps({"requests": asked}) + "\n")


def _deploy(deployed: Cloud, names: list[str]) -> None:
    def run(_: str, event: Any, __: str) -> None:
        order = Order.of(event)
        build(order, _Images(), BucketReleases(f"{deployed.models}/{order.name}"), lambda *_: None)

    deployed.deploy_base(f"{_REPOSITORY}@sha256:base")
    deployed.plane.add(f"{SYSTEM}_build", "build", alias=False, run=run)
    for name in names:
        deployed.deploy_model(name, f"{_REPOSITORY}@sha256:template")


def _push(version: str) -> None:
    """Does what `push` does once it has loaded the model."""
    manifest, folder = Manifest.of(_EXPORT), open_version(version)
    folder.put(_EXPORT, manifest.files, lambda _: None)
    folder.put_manifest(MANIFEST, manifest)


def _an_hour(deployed: Cloud, names: list[str]) -> dict[str, int]:
    """Sends one message for each model to a function that has just started."""
    asked, log = _Asked(), logging.getLogger("botocore.endpoint")
    log.addHandler(asked)
    log.setLevel(logging.DEBUG)
    for name in names:
        deployed.handler = None
        deployed.repair(name)
        deployed.settle()
    log.removeHandler(asked)
    return dict(asked.operations)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
