from pathlib import Path

import pytest

from lambda_serving.errors import Aborted, DataLoss, InvalidArgument
from lambda_serving.store.job_files import open_inputs
from lambda_serving.store.patterns import Pattern


@pytest.mark.parametrize(
    ("text", "folder", "names"),
    [
        ("in/*.jsonl", "in", "*.jsonl"),
        ("*.jsonl", ".", "*.jsonl"),
        ("a.jsonl", ".", "a.jsonl"),
        ("/a.jsonl", "/", "a.jsonl"),
        ("/data/part-[0-9]/**/x?.npz", "/data", "part-[0-9]/**/x?.npz"),
        ("s3://bucket/*", "s3://bucket", "*"),
        ("s3://bucket/a/b.jsonl", "s3://bucket/a", "b.jsonl"),
    ],
)
def test_folder_goes_up_to_the_first_part_that_is_not_literal(
    text: str, folder: str, names: str
) -> None:
    assert Pattern.of(text) == Pattern(folder, names)


@pytest.mark.parametrize("text", ["", "in/", "s3://bucket", "s3://bucket/", "s3://*", "s3://b*/x"])
def test_pattern_that_names_no_files_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="such as folder/"):
        Pattern.of(text)


@pytest.mark.parametrize(
    ("names", "name", "meant"),
    [
        ("*.jsonl", "a.jsonl", True),
        ("*.jsonl", "b/a.jsonl", False),
        ("*.jsonl", "a.jsonl.gz", False),
        ("*.jsonl", "axjsonl", False),
        ("**/*.jsonl", "a.jsonl", True),
        ("**/*.jsonl", "b/c/a.jsonl", True),
        ("b/**/a.jsonl", "b/a.jsonl", True),
        ("b/**/a.jsonl", "c/a.jsonl", False),
        ("part-?", "part-1", True),
        ("part-?", "part-12", False),
        ("part-[0-3]", "part-4", False),
        ("part-[!0-3]", "part-4", True),
        ("a+(b).npz", "a+(b).npz", True),
    ],
)
def test_names_are_matched_as_globs_are(names: str, name: str, meant: bool) -> None:  # noqa: FBT001
    assert Pattern("in", names).matches(name) is meant
    assert Pattern("in", names).includes(f"in/{name}") is meant
    assert not Pattern("in", names).includes(f"out/{name}")


def test_file_that_goes_before_it_is_opened_could_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    inputs = open_inputs(f"{tmp_path}/*")
    [file] = inputs.find()
    (tmp_path / "a").unlink()
    with (
        pytest.raises(DataLoss, match=f"Could not read {tmp_path}/a: No such file or directory"),
        inputs.open(file),
    ):
        pass


def test_file_that_goes_while_it_is_read_has_changed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    inputs = open_inputs(f"{tmp_path}/*")
    [file] = inputs.find()
    with pytest.raises(Aborted, match="a changed while it was read"), inputs.open(file):
        (tmp_path / "a").unlink()
