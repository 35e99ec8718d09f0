"""The release function's handler: messages in, models reconciled, failures given back."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.release.deciding.actions import Action
from lambda_serving.release.deciding.model_state import Deployment
from lambda_serving.release.handler import Worker, start

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class _Model:
    """A gateway that shows this state of a model, or raises this error."""

    def __init__(self, seen: Deployment | Exception) -> None:
        self.seen = seen
        self.looks = 0

    def observe(self) -> Deployment:
        self.looks += 1
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def apply(self, action: Action, _: Deployment) -> None:
        raise AssertionError(f"nothing is to be done, and not {action}")

    def tell(self, alias: str, error: ServingError) -> None:
        raise AssertionError(f"{alias}: {error}")


_DONE = Deployment("base", {})
_SETTLING = Deployment("base", {}, aspired=[1], settling={1: 41.5})


class _Queue:
    """A queue with messages for models, and the worker that they are handed to."""

    def __init__(self, client: "SQSClient") -> None:
        self.client = client
        self.models: dict[str, _Model] = {}
        self.failures: list[str] = []
        name = "changes.fifo"
        self.url = client.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
        self.worker = Worker(self.models.__getitem__, client, self.failures.append)

    def hand_over(self, *models: str, tries: int = 1, seconds: float = 300) -> list[str]:
        """Sends a message for each, and hands them over in one batch; the ids given back."""
        for number, model in enumerate(models):
            self.client.send_message(
                QueueUrl=self.url,
                MessageBody="{}",
                MessageGroupId=model,
                MessageDeduplicationId=f"{model}{number}",
            )
        received = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"]
        )["Messages"]
        records = [
            {
                "messageId": f"{each['Attributes']['MessageGroupId']}-{number}",
                "receiptHandle": each["ReceiptHandle"],
                "attributes": {
                    **{str(name): value for name, value in each["Attributes"].items()},
                    "ApproximateReceiveCount": str(tries),
                },
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:changes.fifo",
            }
            for number, each in enumerate(received)
        ]
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: int(1000 * seconds))
        answer = self.worker({"Records": records}, context)
        return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Queue]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("sqs", region_name="eu-west-1")
        yield _Queue(client)
        client.close()


def _visible_after(queue: _Queue) -> list[int]:
    """The visibility timeouts that were set."""
    asked: list[int] = []
    queue.client.meta.events.register(
        "before-parameter-build.sqs.ChangeMessageVisibility",
        lambda params, **_: asked.append(params["VisibilityTimeout"]),
    )
    return asked


def test_messages_of_one_model_are_one_look(queue: _Queue) -> None:
    queue.models |= {"A": _Model(_DONE), "B": _Model(_DONE)}
    assert queue.hand_over("A", "B", "A", "A") == []
    assert (queue.models["A"].looks, queue.models["B"].looks, queue.failures) == (1, 1, [])


def test_message_that_must_wait_is_given_back_until_then(queue: _Queue) -> None:
    queue.models["A"] = _Model(_SETTLING)
    asked = _visible_after(queue)
    assert queue.hand_over("A") == ["A-0"]
    assert (asked, queue.failures) == ([42], [])


def test_trouble_of_one_model_does_not_touch_another(
    queue: _Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.models |= {"A": _Model(Unavailable("no bucket")), "B": _Model(_DONE)}
    asked = _visible_after(queue)
    assert queue.hand_over("A", "B", "A") == ["A-0", "A-2"]
    assert queue.models["B"].looks == 1
    assert (asked, queue.failures) == ([6, 6], [])
    assert "A: no bucket" in caplog.text


@pytest.mark.parametrize(("tries", "seconds"), [(1, 6), (3, 21), (7, 301), (90, 301)])
def test_repeated_failure_is_retried_at_growing_intervals(
    tries: int, seconds: int, queue: _Queue
) -> None:
    queue.models["A"] = _Model(Unavailable("no bucket"))
    asked = _visible_after(queue)
    queue.hand_over("A", tries=tries)
    assert asked == [seconds]


@pytest.mark.parametrize(
    ("error", "tries", "failures"),
    [
        (Unavailable("Rate exceeded (ThrottlingException)"), 1, []),
        (Unavailable("Rate exceeded (ThrottlingException)"), 6, []),
        (Unavailable("Rate exceeded (ThrottlingException)"), 7, ["A"]),
        (Aborted("somebody else moved the alias"), 1, []),
        (Aborted("somebody else moved the alias"), 100, ["A"]),
        (PermissionDenied("lambda:PublishVersion"), 1, ["A"]),
        (InvalidArgument("models.config, line 3"), 1, ["A"]),
    ],
)
def test_temporary_failure_raises_the_alarm_only_if_it_lasts(
    error: ServingError, tries: int, failures: list[str], queue: _Queue
) -> None:
    queue.models["A"] = _Model(error)
    assert queue.hand_over("A", tries=tries) == ["A-0"]
    assert queue.failures == failures


def test_defect_is_logged_and_given_back(queue: _Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.models |= {"A": _Model(ZeroDivisionError("a defect")), "B": _Model(_DONE)}
    assert queue.hand_over("A", "B") == ["A-0"]
    assert queue.failures == ["A"]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info


def test_no_action_begins_that_would_be_broken_off(queue: _Queue) -> None:
    queue.models["A"] = _Model(_DONE)
    assert queue.hand_over("A", seconds=30) == ["A-0"]
    assert (queue.models["A"].looks, queue.failures) == (0, [])


@pytest.mark.parametrize("missing", ["SYSTEM", "MODELS", "API_ID"])
def test_environment_that_lacks_something_is_reported(missing: str) -> None:
    environment: dict[str, Any] = {"SYSTEM": "s", "MODELS": "s3://b/models", "API_ID": "a"}
    with pytest.raises(InvalidArgument, match=f"environment lacks {missing}"):
        start(environment | {missing: ""})
