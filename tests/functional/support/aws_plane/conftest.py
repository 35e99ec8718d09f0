"""The stand-in of Lambda and CodeDeploy with one function, and a client."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.aws_plane import Alias, Function, Plane, serving
from support.plane_clients import IMAGE, client_of


def _run(image: str, event: Any, qualifier: str) -> Any:
    if event == "fail":
        raise RuntimeError("no model")
    return {"image": image, "event": event, "qualifier": qualifier}


@pytest.fixture
def plane() -> Plane:
    return Plane(run=_run)


@pytest.fixture
def function(plane: Plane) -> Function:
    return plane.add("f", IMAGE("template"), environment={"MODEL_NAME": "half"})


@pytest.fixture
def endpoint(plane: Plane) -> Iterator[str]:
    with serving(plane) as endpoint:
        yield endpoint


@pytest.fixture
def functions(endpoint: str, function: Function) -> Iterator[Any]:
    assert function.aliases == {"live": Alias(1, revision=2)}
    client = client_of("lambda", endpoint)
    yield client
    client.close()
