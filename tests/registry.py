"""Debian's docker-registry, a real registry of images, as a process of its own."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

__all__ = ["PASSWORD", "USER", "running"]

USER, PASSWORD = "AWS", "token-of-ecr"
_HASH = "$2b$04$h8xHscnPE0Ol6yZxbzdf2.VKVofcjm52BquXYHxii2s0xL8czud7."
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")
_START_SECONDS, _STOP_SECONDS = 30, 30


@contextmanager
def running(*, closed: bool = False) -> Iterator[str]:
    """The host of an empty registry, `127.0.0.1:PORT`; stopped and gone after the block.

    A closed one is for `USER` with `PASSWORD`, and names its addresses without a host.
    """
    with tempfile.TemporaryDirectory() as name, Path(name, "log").open("w+b") as log:
        folder = Path(name)
        config = folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(_config(folder, closed=closed)))
        command = shutil.which("docker-registry")
        assert command, "docker-registry is missing. Debian has a package of that name"
        process = subprocess.Popen([command, "serve", config], stdout=log, stderr=log)
        try:
            yield _host(process, folder / "log")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _config(folder: Path, *, closed: bool) -> Mapping[str, object]:
    users = folder / "htpasswd"
    users.write_text(f"{USER}:{_HASH}\n")
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(users)}}} if closed else {}
    return {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": "127.0.0.1:0", "relativeurls": closed},
        **auth,
    }


def _host(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline, pause = monotonic() + _START_SECONDS, threading.Event()
    while not (match := _LISTENING.search(log.read_text())):
        if process.poll() is not None or monotonic() > deadline:
            raise AssertionError(f"docker-registry did not start:\n{log.read_text()}")
        pause.wait(0.02)
    return match[1]
