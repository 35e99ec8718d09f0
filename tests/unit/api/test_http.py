import pytest

from lambda_serving.api import http


@pytest.mark.parametrize(
    ("values", "value"), [([], b""), ([b"gzip"], b"gzip"), ([b"br", b"", b"gzip"], b"br,,gzip")]
)
def test_repeated_headers_are_one_value_with_commas(values: list[bytes], value: bytes) -> None:
    others = [(b"accept", b"x"), (b"accept-encodings", b"y")]
    sent = [(b"accept-encoding", each) for each in values]
    assert http.header({"headers": [*others, *sent]}, b"accept-encoding") == value
