"""Text fits the columns that there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lambda_serving.cli.layout import show_rows, wrapped

_WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)


@given(st.lists(_WORDS, min_size=1, max_size=12), st.integers(20, 100), st.integers(0, 15))
def test_words_stay_whole_and_lines_within_the_columns(
    words: list[str], columns: int, indent: int
) -> None:
    lines = wrapped([" ".join(words)], columns, indent).split("\n")
    assert " ".join(" ".join(line.strip(" ") for line in lines).split(" ")) == " ".join(words)
    for line in lines:
        assert cell_len(line) <= columns or " " not in line.strip(" ")


def test_piece_with_blanks_moves_to_the_next_line_whole() -> None:
    pieces = ("keras_tensor_17:", "float", "[n, 28, 28, 1]")
    assert wrapped(pieces, 30, 4, "in").split("\n") == [
        "in  keras_tensor_17: float",
        "    [n, 28, 28, 1]",
    ]


def test_control_characters_are_shown() -> None:
    assert wrapped(["a\x1b[31m\nb"], 60) == r"a\x1b[31m\nb"


_TITLES = ("version", "state", "function version", "error")
_REASON = "Its image was ordered 2 times, and no build finished"
_ROWS = [("2", "FAILED", "", _REASON), ("1", "AVAILABLE", "3", "")]


def test_rows_are_a_table_where_it_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    show_rows(_TITLES, _ROWS)
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    assert cells == [[*row] for row in _ROWS]


def test_rows_are_blocks_where_a_table_would_cut_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show_rows(_TITLES, _ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "version 2",
        "  state             FAILED",
        "  error             Its image was ordered 2 times, and no",
        "                    build finished",
        "version 1",
        "  state             AVAILABLE",
        "  function version  3",
    ]
