"""Lines of a function's log: what Lambda's own runtime writes once the handler has set it up."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from awslambdaric.bootstrap import LambdaLoggerFilter, LambdaLoggerHandler

from lambda_serving.function.json_log import log_json

_MODEL = {"service": "lambda_serving", "model": "MLP", "version": 2}
_log = logging.getLogger("lambda_serving.somewhere")


class _Sink:
    """What the runtime gives lines to."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def log(self, line: str) -> None:
        self.text.write(line)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


@pytest.fixture
def sink() -> Iterator[_Sink]:
    """Of a handler as the runtime sets it up for the root of all loggers."""
    sink, root, ours = _Sink(), logging.getLogger(), logging.getLogger("lambda_serving")
    handler, level = LambdaLoggerHandler(sink), ours.level
    handler.setFormatter(logging.Formatter("%(message)s\n"))
    handler.addFilter(LambdaLoggerFilter())
    root.addHandler(handler)
    yield sink
    root.removeHandler(handler)
    ours.setLevel(level)


def test_each_record_is_one_line_with_the_model(sink: _Sink) -> None:
    log_json(_MODEL)
    _log.info("loaded %s\nof two lines, “quoted”", object)
    logging.getLogger("another").warning("careful")
    ours, another = sink.lines()
    assert ours["message"] == "loaded <class 'object'>\nof two lines, “quoted”"
    assert (ours["level"], ours["logger"]) == ("INFO", "lambda_serving.somewhere")
    assert datetime.fromisoformat(ours["timestamp"]).tzinfo is UTC
    assert "requestId" in ours
    assert {name: another[name] for name in _MODEL} == _MODEL


def test_line_of_a_failure_holds_its_traceback(sink: _Sink) -> None:
    log_json(_MODEL)
    try:
        int("a defect")
    except ValueError:
        _log.exception("it failed")
    [line] = sink.lines()
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("base 10: 'a defect'")


def test_json_format_of_aws_is_kept(sink: _Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_LOG_FORMAT", "JSON")
    log_json(_MODEL)
    _log.info("as it was")
    assert sink.text.getvalue() == "as it was\n"


def test_handlers_that_are_not_lambdas_stay_as_they_are() -> None:
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(handler)
    try:
        log_json(_MODEL)
        assert handler.formatter is None
    finally:
        logging.getLogger().removeHandler(handler)
