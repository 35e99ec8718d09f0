"""Pushes versions and waits until each is live: `python updates.py EXPORT COUNT`.

The whole system runs on this machine, as in `cloud`: a real registry, the build function's
handler in this process, and the predict function's under Lambda's emulator with this machine's
libraries. Prints a line of JSON for each push: milliseconds of each step, and bytes sent to the
registry. That excludes the time of Lambda itself, and the time to unpack the image's layer.
"""

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from threading import Event
from time import monotonic, perf_counter
from typing import Any

from lambda_serving.image import Registry, open_client
from lambda_serving.image.reference import Reference
from lambda_serving.release.push import push
from lambda_serving.store.push_target import open_version
from support import cloud, emulator, registry
from support.aws_plane import Plane
from support.cloud import SYSTEM, Cloud

_MODEL = "model"
_LIVE_SECONDS = 300
_PAUSE_SECONDS = 0.05
_STEPS = ("first look", "fetch, compile, pack", "upload, record", "publish", "warm", "point")


class _Heard(logging.Handler):
    """The log lines of the release and of the build, and their times."""

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forgets everything, before the next push."""
        self.times: dict[str, float] = {}
        self.sent: list[int] = []
        self.pulling = 0.0
        self.live = Event()

    def emit(self, record: logging.LogRecord) -> None:
        match record.name.rpartition(".")[2], record.args:
            case "handler", (_, action):
                self._note(type(action).__name__)
            case "registry", (int(size), _):
                self._note("Upload")
                self.sent.append(size)

    def called(self, operation: str, when: str) -> None:
        """As `Plane.interfere`: after this call the alias points to the new function version."""
        if (operation, when) == ("UpdateAlias", "after"):
            self._note("live")
            self.live.set()

    def unpack(self, image: str, folder: Path) -> Mapping[str, str]:
        """Unpacks an image, in place of Lambda's own work on it."""
        start = perf_counter()
        environment = registry.unpack(image, folder)
        self.pulling += perf_counter() - start
        return environment

    def steps(self, pushed: float) -> dict[str, float]:
        """Milliseconds of each step, from the end of the push."""
        names = ("Build", "Upload", "Update", "Warm", "Point", "live")
        times = [pushed, *(self.times[name] for name in names)]
        seconds = [end - start for start, end in pairwise(times)]
        steps = dict(zip(_STEPS, seconds, strict=True))
        steps["warm"] -= self.pulling
        return {name: 1000 * value for name, value in steps.items()}

    def _note(self, name: str) -> None:
        self.times.setdefault(name, perf_counter())


def main(export: Path, count: int) -> None:
    heard = _Heard()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    for name in ("release.handler", "image.registry"):
        logging.getLogger(f"lambda_serving.{name}").addHandler(heard)
    with (
        tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder,
        registry.running() as host,
        emulator.images(Path(folder, "images"), heard.unpack) as run,
        cloud.moto() as endpoint,
        cloud.running(Plane(run=run, looks=0, interfere=heard.called), endpoint) as deployed,
    ):
        base = registry.put_base(f"{host}/models")
        deployed.deploy_base(base)
        deployed.deploy_build()
        deployed.deploy_model(_MODEL, base)
        updates = []
        with deployed.pumping():
            for version in range(1, 1 + count):
                heard.clear()
                source = _changed(export, Path(folder, str(version)))
                updates.append(_update(deployed, source, version, heard))
    sys.stdout.write(json.dumps({"updates": updates}) + "\n")


def _update(deployed: Cloud, source: Path, version: int, heard: _Heard) -> dict[str, Any]:
    """Pushes a version, and waits until it is live and everything that follows is done."""
    push(source, open_version(f"{deployed.models}/{_MODEL}/{version}"))
    pushed = perf_counter()
    assert heard.live.wait(_LIVE_SECONDS), f"version {version} is not live: {heard.times}"
    deadline, pause = monotonic() + _LIVE_SECONDS, Event()
    while deployed.waiting():
        assert monotonic() < deadline, f"{deployed.waiting()} messages are left"
        pause.wait(_PAUSE_SECONDS)
    image = deployed.plane.functions[f"{SYSTEM}-{_MODEL}"].choose("live")[1].image
    with open_client() as client:
        content = Registry(client).manifest(Reference.of(image)).content
    return {
        "steps": heard.steps(pushed),
        "sent": sum(heard.sent) + len(content),
        "layer": json.loads(content)["layers"][-1]["size"],
    }


def _changed(export: Path, folder: Path) -> Path:
    """A copy with one more file, which images get too."""
    shutil.copytree(export, folder)
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "about.txt").write_text(folder.name)
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
