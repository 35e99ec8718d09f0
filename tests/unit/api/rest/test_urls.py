import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.api.rest.urls import Call, Verb, parse
from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ModelSpec


@pytest.mark.parametrize(
    ("method", "target", "call"),
    [
        ("POST", "/v1/models/m:predict", Call(Verb.PREDICT, ModelSpec("m"))),
        ("POST", "/V1/Models/m:predict", Call(Verb.PREDICT, ModelSpec("m"))),
        ("POST", "/v1/models/m/versions/007:classify", Call(Verb.CLASSIFY, ModelSpec("m", 7))),
        (
            "POST",
            "/v1/models/m/labels/a%2Fb:regress",
            Call(Verb.REGRESS, ModelSpec("m", label="a/b")),
        ),
        ("GET", "/v1/models/m", Call(Verb.STATUS, ModelSpec("m"))),
        ("GET", "/v1/models/a%2Fb%3Ac+d", Call(Verb.STATUS, ModelSpec("a/b:c+d"))),
        ("GET", "/v1/models/m?x=1", Call(Verb.STATUS, ModelSpec("m?x=1"))),
        ("GET", "/v1/models/m/versions/2", Call(Verb.STATUS, ModelSpec("m", 2))),
        ("GET", f"/v1/models/m/versions/{'0' * 5000}7", Call(Verb.STATUS, ModelSpec("m", 7))),
        ("GET", "/v1/models/m/METADATA", Call(Verb.STATUS, ModelSpec("m"))),
        ("GET", "/v1/models/m/labels/x/metadata", Call(Verb.METADATA, ModelSpec("m", label="x"))),
    ],
)
def test_grammar_gives_verb_and_model(method: str, target: str, call: Call) -> None:
    assert parse(method, target) == call


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/m/"),
        ("HEAD", "/v1/models/m"),
        ("PUT", "/v1/models/m:predict"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/1/labels/x:predict"),
        ("POST", "/v1/models/m/versions/١:predict"),
    ],
)
def test_everything_else_is_malformed(method: str, target: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse(method, target)
    assert str(raised.value) == f"Malformed request: {method} {target}"


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/versions/1"])
def test_request_without_a_model_name(target: str) -> None:
    with pytest.raises(InvalidArgument, match="^Missing model name in request.$"):
        parse("GET", target)


@pytest.mark.parametrize("version", ["9223372036854775808", "1" * 5000])
def test_version_over_int64_is_told_before_anything_else(version: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse("POST", f"/v1/models/m/versions/{version}:PREDICT")
    assert str(raised.value) == f"Failed to convert version: {version} to numeric."


@pytest.mark.parametrize("part", ["%ff", "a%C3", "%ed%a0%80", "\xff", "%C3\xff", "\u2020"])
@pytest.mark.parametrize("place", ["/v1/models/{}", "/v1/models/m/labels/{}"])
def test_name_or_label_that_is_no_utf_8_is_reported(place: str, part: str) -> None:
    """A byte that is decoded to some other text would be another model's."""
    with pytest.raises(InvalidArgument, match=" is not UTF-8, percent-encoded$") as raised:
        parse("GET", place.format(part))
    assert str(raised.value).isascii()


@pytest.mark.parametrize("part", ["%c3%bc", "\xc3\xbc", "%c3\xbc"])
def test_name_in_utf_8_may_be_percent_encoded(part: str) -> None:
    assert parse("GET", f"/v1/models/{part}") == Call(Verb.STATUS, ModelSpec("\u00fc"))


@given(st.sampled_from(["GET", "POST"]), st.text())
def test_no_text_gives_anything_but_a_call_or_a_refusal(method: str, tail: str) -> None:
    try:
        assert isinstance(parse(method, "/v1/models" + tail), Call)
    except InvalidArgument as error:
        assert str(error)
