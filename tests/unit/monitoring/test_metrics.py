"""The text of metrics, exactly, and as Prometheus reads it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lambda_serving.monitoring.metrics import Metric, Metrics, counters, exponential, text

_COUNTER = Metric("/test/path/total", ("name",))
_HISTOGRAM = Metric("/test/path/histogram", ("status",), exponential(1, 2, 4))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics((_HISTOGRAM, _COUNTER))


def test_text_is_that_of_tensorflow_serving(metrics: Metrics) -> None:
    """The cases of its util/prometheus_exporter_test.cc."""
    metrics.add(_COUNTER, "abc", amount=2)
    for value in (2, 6, 200):
        metrics.observe(_HISTOGRAM, value, "good")
    assert text([metrics.snapshot()]) == (
        "# TYPE :test:path:histogram histogram\n"
        ':test:path:histogram_bucket{status="good",le="1"} 0\n'
        ':test:path:histogram_bucket{status="good",le="2"} 0\n'
        ':test:path:histogram_bucket{status="good",le="4"} 1\n'
        ':test:path:histogram_bucket{status="good",le="8"} 2\n'
        ':test:path:histogram_bucket{status="good",le="+Inf"} 3\n'
        ':test:path:histogram_sum{status="good"} 208\n'
        ':test:path:histogram_count{status="good"} 3\n'
        "# TYPE :test:path:total counter\n"
        ':test:path:total{name="abc"} 2\n'
    )


def test_metric_without_points_has_its_type_only(metrics: Metrics) -> None:
    assert text([metrics.snapshot()]) == (
        "# TYPE :test:path:histogram histogram\n# TYPE :test:path:total counter\n"
    )


def test_metric_without_labels_has_empty_braces() -> None:
    runs, sizes = Metric("/a-b/runs"), Metric("/a-b/sizes", (), (1.0,))
    metrics = Metrics((runs, sizes))
    metrics.add(runs)
    metrics.observe(sizes, 0.5)
    assert text([metrics.snapshot()]) == (
        "# TYPE :a:b:runs counter\n:a:b:runs{} 1\n"
        "# TYPE :a:b:sizes histogram\n"
        ':a:b:sizes_bucket{le="1"} 1\n:a:b:sizes_bucket{le="+Inf"} 1\n'
        ":a:b:sizes_sum{} 0.5\n:a:b:sizes_count{} 1\n"
    )


def test_limits_of_latencies_are_printed_with_six_digits() -> None:
    latency = Metric("/l", (), exponential(10, 1.8, 33))
    metrics = Metrics((latency,))
    metrics.observe(latency, 12.5)
    lines = text([metrics.snapshot()]).splitlines()
    ends = [line.split('"')[1] for line in lines if "_bucket" in line]
    assert len(ends) == 34
    assert ends[:5] == ["10", "18", "32.4", "58.32", "104.976"]
    assert ends[-2:] == ["1.47476e+09", "+Inf"]


def test_prometheus_reads_what_was_counted(metrics: Metrics) -> None:
    strange = 'a "quoted" \\ name\nof two lines'
    metrics.add(_COUNTER, strange, amount=3)
    metrics.observe(_HISTOGRAM, 1.5, "OK")
    histogram, counter = text_string_to_metric_families(text([metrics.snapshot()]))
    assert (histogram.type, counter.type) == ("histogram", "counter")
    [sample] = counter.samples
    assert (sample.labels, sample.value) == ({"name": strange}, 3)
    by_name = {sample.name.rsplit("_", 1)[1]: sample.value for sample in histogram.samples}
    assert by_name == {"bucket": 1, "sum": 1.5, "count": 1}


def test_snapshots_of_several_processes_are_summed() -> None:
    snapshots = []
    for amount in (1, 2):
        metrics = Metrics((_COUNTER, _HISTOGRAM))
        metrics.add(_COUNTER, "both", amount=amount)
        metrics.add(_COUNTER, str(amount))
        metrics.observe(_HISTOGRAM, amount, "OK")
        snapshots.append(json.loads(json.dumps(metrics.snapshot())))
    lines = text(snapshots).splitlines()
    assert [line for line in lines if "total{" in line] == [
        ':test:path:total{name="1"} 1',
        ':test:path:total{name="2"} 1',
        ':test:path:total{name="both"} 3',
    ]
    assert ':test:path:histogram_bucket{status="OK",le="2"} 1' in lines
    assert ':test:path:histogram_sum{status="OK"} 3' in lines
    assert counters(snapshots[1:]) == {"/test/path/total": 3}


def test_nothing_is_lost_between_threads(metrics: Metrics) -> None:
    def count() -> None:
        for _ in range(1000):
            metrics.add(_COUNTER, "x")
            metrics.observe(_HISTOGRAM, 1, "OK")

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(count)
    lines = text([metrics.snapshot()]).splitlines()
    assert ':test:path:total{name="x"} 4000' in lines
    assert ':test:path:histogram_count{status="OK"} 4000' in lines
