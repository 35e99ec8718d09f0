"""Clients of the stand-in for Lambda and CodeDeploy, and helpers for its tests."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

__all__ = ["IMAGE", "client_of", "code_of", "publish"]

IMAGE = "registry/models@sha256:{}".format


def client_of(service: Any, endpoint: str) -> Any:
    """A client of one service of the stand-in; it does not retry."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 nobody checks it
        config=Config(retries={"total_max_attempts": 1}),
    )


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """HTTP status and code of an error."""
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def publish(functions: Any, name: str) -> str:
    """Publishes a version with that image; returns its number once it is active."""
    functions.update_function_code(FunctionName="f", ImageUri=IMAGE(name))
    functions.get_function(FunctionName="f")
    version: str = functions.publish_version(FunctionName="f", CodeSha256=name)["Version"]
    functions.get_waiter("published_version_active").wait(FunctionName="f", Qualifier=version)
    return version
