"""A deployed project, in a folder without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import deployed_project
from support.deployed_project import Deployed


@pytest.fixture
def deployed(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Deployed]:
    """The stack `SYSTEM`, for commands that run in an empty folder on a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    with deployed_project.running(moto, monkeypatch) as deployed:
        yield deployed
