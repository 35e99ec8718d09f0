"""The short form of `make soak`."""

import shutil
from pathlib import Path

from benchmarks.soak import soak


def test_answers_what_must_come_and_keeps_its_memory_over_many_requests_and_reloads(
    models_dir: Path, tmp_path: Path
) -> None:
    export = tmp_path / "half_plus_two" / "123"
    shutil.copytree(models_dir / "half_plus_two" / "123", export)
    memory, _ = soak(export, 500, 2000, 3)
    assert memory.reached
