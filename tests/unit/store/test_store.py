from pathlib import Path

import pytest

from lambda_serving.errors import Unavailable, Unimplemented
from lambda_serving.model_spec import ServableId
from lambda_serving.store import LocalStore, open_store
from lambda_serving.store.names import by_version


def test_counts_only_names_that_are_whole_numbers() -> None:
    names = ["1", "002", "10", "v3", "1.0", "0x4", "5a", "-6", "9223372036854775808", "tmp", ""]
    assert by_version(names) == {1: "1", 2: "002", 10: "10"}


def test_last_of_two_names_for_one_version_counts() -> None:
    assert by_version(["1", "001"]) == {1: "1"}


def test_a_file_named_as_a_number_counts_too(tmp_path: Path) -> None:
    (tmp_path / "7").touch()
    assert LocalStore({"m": str(tmp_path)}).fetch(ServableId("m", 7)) == tmp_path / "7"


def test_unreadable_base_path_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Could not read the base path .*/nowhere of model m"):
        LocalStore({"m": f"{tmp_path}/nowhere"}).versions("m")


@pytest.mark.parametrize("base_path", ["gs://bucket/m", "http://host/m", "S3://bucket/m"])
def test_another_scheme_is_refused_with_what_is_supported(base_path: str, tmp_path: Path) -> None:
    with pytest.raises(Unimplemented) as refused:
        open_store({"local": "/models", "m": base_path}, tmp_path)
    assert str(refused.value) == (
        f"Model m's base path {base_path} has the scheme {base_path.partition(':')[0]}:."
        " Supported are folders and s3://BUCKET/PREFIX"
    )
