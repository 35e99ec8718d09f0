"""Every case of the conformance table through the REST app, in process."""

import asyncio
from collections.abc import Callable
from operator import attrgetter

import httpx
import pytest

from support.conformance import Case, check, load_cases
from support.litert_cases import litert_cases


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


@pytest.mark.parametrize("case", litert_cases(), ids=attrgetter("name"))
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
