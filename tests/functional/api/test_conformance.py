"""Every case of the conformance table through the REST app, in process."""

import asyncio
from collections.abc import Callable
from operator import attrgetter

import httpx
import pytest

from support.build_tflite import MODELS
from support.conformance import Case, check, load_cases

_NOT_OF_LITERT = {
    # its signatures that parse examples do not convert
    *("more-cls-07", "more-meta-03", "more-reg-02", "reg-01", "reg-02", "reg-06", "reg-19"),
    # TensorFlow computes other ranks than the signature declares
    *("col-04", "row-02"),
    # words of TensorFlow's kernel
    "more-row-08",
}
_TFLITE_CASES = [
    case
    for case in load_cases()
    if case.path.split("/")[3:] and case.name not in _NOT_OF_LITERT
    if case.path.split("/")[3].partition(":")[0] in MODELS
]


@pytest.mark.parametrize("case", load_cases(), ids=attrgetter("name"))
def test_answers_as_the_table_says(
    case: Case, app: Callable[[tuple[str, ...]], httpx.ASGITransport]
) -> None:
    response = asyncio.run(_send(app(case.flags), case))
    check(case, response.status_code, response.headers, response.content)


@pytest.mark.parametrize("case", load_cases(), ids=attrgetter("name"))
def test_compiled_models_answer_as_the_table_says(
    case: Case, compiled_app: Callable[[tuple[str, ...]], httpx.ASGITransport]
) -> None:
    response = asyncio.run(_send(compiled_app(case.flags), case))
    check(case, response.status_code, response.headers, response.content)


@pytest.mark.parametrize("case", _TFLITE_CASES, ids=attrgetter("name"))
def test_litert_answers_as_the_table_says(
    case: Case, tflite_app: Callable[[tuple[str, ...]], httpx.ASGITransport]
) -> None:
    response = asyncio.run(_send(tflite_app(case.flags), case))
    check(case, response.status_code, response.headers, response.content)


async def _send(transport: httpx.ASGITransport, case: Case) -> httpx.Response:
    url = httpx.URL(f"http://server{case.path}")
    assert url.raw_path == case.path.encode()  # percent-escapes go out as the case has them
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.request(case.method, url, content=case.body, headers=dict(case.headers))
