"""Tables of benchmarks: a column for each peer, and what is missed."""

from benchmarks.rows import Row, Unit
from benchmarks.tables import markdown, missed

_START = {"ours": [200, 190, 300], "bare": [100, 100, 120], "peer": [4000, 3000, 5000]}


def test_peers_are_columns_of_one_line() -> None:
    rows = [
        *Row.each("start", Unit.MILLISECONDS, _START),
        *Row.each("memory", Unit.MEGABYTES, {"ours": [50], "peer": [500]}),
        *Row.each("alone", Unit.MEGABYTES, {"ours": [0.5]}),
    ]
    assert markdown(rows).splitlines() == [
        "| what | ours | bare | peer |",
        "| --- | --- | --- | --- |",
        "| start | 200 ms | 100 ms, 0.50x | 4000 ms, 20.0x |",
        "| memory | 50 MB |  | 500 MB, 0.10x |",
        "| alone | 0.5 MB |  |  |",
    ]


def test_what_is_less_than_wanted_is_missed() -> None:
    prices = {"ours": [0.2], "peer": [1.0]}
    rows = [
        *Row.each("start", Unit.MILLISECONDS, _START, {"bare": 0.9, "peer": 20}),
        *Row.each("price", Unit.DOLLARS, prices, {"peer": 0.15}),
        *Row.each("price again", Unit.DOLLARS, prices, {"peer": 0.2}),
    ]
    assert list(missed(rows)) == [
        "start, beside bare: 0.50x, wanted at least 0.90x",
        "price, beside peer: 0.20x, wanted at most 0.15x",
    ]
