"""Where files lie, told from an address."""

import pytest

from lambda_serving.errors import InvalidArgument, Unimplemented
from lambda_serving.store.address import Address


@pytest.mark.parametrize(
    ("text", "bucket", "path"),
    [
        ("/models/m", "", "/models/m"),
        ("models://m/x", None, None),
        ("/models://m", "", "/models://m"),
        ("c:/models", "", "c:/models"),
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/m/1//", "b", "m/1"),
        ("s3://b//m", "b", "/m"),
        ("s3:/b/m", None, None),
        ("S3://b/m", None, None),
    ],
)
def test_a_path_or_a_bucket_or_refused(text: str, bucket: str | None, path: str | None) -> None:
    if bucket is None:
        with pytest.raises(Unimplemented, match=f"^--input {text} has the scheme .*s3://BUCKET"):
            Address.parse(text, "--input")
    else:
        address = Address.parse(text)
        assert (address.bucket, address.path, address.is_bucket) == (bucket, path, bucket != "")


@pytest.mark.parametrize("address", ["s3://b", "s3://b/m", "s3://b/m/MLP"])
def test_key_below_a_folder_begins_with_its_prefix(address: str) -> None:
    folder = Address.in_bucket(address)
    assert (folder / "1").path == f"{folder.prefix}1"
    assert (folder / "1").parent_and_name() == (folder, "1")
    assert Address.parse(str(folder / "1")) == folder / "1"


def test_only_an_address_in_a_bucket_will_do() -> None:
    with pytest.raises(InvalidArgument, match="^BASE_PATH must be in a bucket, s3.*; got /models$"):
        Address.in_bucket("/models", "BASE_PATH")
    with pytest.raises(InvalidArgument, match="^The base path s3:///m names no bucket"):
        Address.in_bucket("s3:///m")
