"""A registry for all tests of images, repositories in it, and a folder to append."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.registry import running
from support.registry_wire import Repository, Wire


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    with running() as host:
        yield host


@pytest.fixture(scope="session")
def closed() -> Iterator[str]:
    with running(closed=True) as host:
        yield host


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def base(host: str) -> Iterator[Repository]:
    repository = Repository(host)
    yield repository
    repository.close()


@pytest.fixture
def target(host: str) -> Iterator[Repository]:
    repository = Repository(host)
    yield repository
    repository.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "compiled"
    (folder / "weights").mkdir(parents=True)
    (folder / "graph.pb").write_bytes(b"graph")
    (folder / "weights/0").write_bytes(bytes(range(256)) * 40)
    return folder
