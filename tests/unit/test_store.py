from pathlib import Path

import pytest

from lambda_serving.errors import NotFound, Unavailable, Unimplemented
from lambda_serving.model_spec import ServableId
from lambda_serving.store import LocalStore


def test_counts_only_names_that_are_whole_numbers(tmp_path: Path) -> None:
    for name in ("1", "002", "10", "v3", "1.0", "0x4", "5a", "-6", "9223372036854775808", "tmp"):
        (tmp_path / name).mkdir()
    assert LocalStore({"m": str(tmp_path)}).versions("m") == [1, 2, 10]


def test_a_file_named_as_a_number_counts_too(tmp_path: Path) -> None:
    (tmp_path / "7").touch()
    assert LocalStore({"m": str(tmp_path)}).fetch(ServableId("m", 7)) == tmp_path / "7"


def test_of_two_names_for_one_version_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "001").mkdir()
    assert LocalStore({"m": str(tmp_path)}).fetch(ServableId("m", 1)) == tmp_path / "1"


def test_contents_names_what_is_there(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert LocalStore({"m": str(tmp_path)}).contents("m") == ["a", "b"]


def test_unreadable_base_path_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Could not read the base path .*/nowhere of model m"):
        LocalStore({"m": f"{tmp_path}/nowhere"}).versions("m")


def test_version_that_went_away_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Version 4 of model m is not under"):
        LocalStore({"m": str(tmp_path)}).fetch(ServableId("m", 4))


def test_a_bucket_is_refused_with_the_way_out() -> None:
    with pytest.raises(Unimplemented, match="aws s3 sync s3://bucket/m /models"):
        LocalStore({"m": "s3://bucket/m"})
