"""Signatures read from a version's files are those of the version when it is loaded."""

from pathlib import Path

import pytest

from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import DataLoss
from lambda_serving.release.signatures import of_definitions, of_folder


def test_files_have_the_signatures_of_the_loaded_model(manager: Manager, models_dir: Path) -> None:
    loaded = [each for versions in manager.models().values() for each in versions]
    assert len(loaded) > 20
    for each in loaded:
        folder = models_dir / each.id.name / str(each.id.version)
        found = of_folder(folder, ["serve"], litert=False)
        assert (each.id, found) == (each.id, of_definitions(each.servable.definitions))


def test_folder_without_the_tags_says_so(models_dir: Path) -> None:
    with pytest.raises(DataLoss, match="has no graph with the tags gpu,serve that can be read"):
        of_folder(models_dir / "two_versions/1", ["gpu", "serve"], litert=False)
