"""Lines from which CloudWatch makes metrics."""

import json
import time

import pytest

from lambda_serving.monitoring import embedded_metrics


def test_line_is_as_cloudwatch_specifies(capsys: pytest.CaptureFixture[str]) -> None:
    before = 1000 * time.time()
    embedded_metrics.count(
        {"Latency": (1.5, "Milliseconds"), "ErrorCount": (1.0, "Count")},
        {"stack": "s", "model": 'a "model"\n'},
        {"stack": "s"},
    )
    [printed] = capsys.readouterr().out.splitlines()
    line = json.loads(printed)
    about = line.pop("_aws")
    assert before - 1 <= about["Timestamp"] <= 1000 * time.time()
    assert about["CloudWatchMetrics"] == [
        {
            "Namespace": "LambdaServing",
            "Dimensions": [["stack", "model"], ["stack"]],
            "Metrics": [
                {"Name": "Latency", "Unit": "Milliseconds"},
                {"Name": "ErrorCount", "Unit": "Count"},
            ],
        }
    ]
    assert line == {
        "stack": "s",
        "model": 'a "model"\n',
        "Latency": [1.5],
        "ErrorCount": [1.0],
    }
