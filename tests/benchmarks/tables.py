"""Rows as tables in Markdown, for `docs/benchmarks.md`, and those that miss what is wanted."""

from collections.abc import Iterator, Sequence

from benchmarks.rows import Figure, Row, Unit

__all__ = ["markdown", "missed"]


def markdown(rows: Sequence[Row]) -> str:
    """One line for each `what`, with our figure and each peer's, and our ratio to it.

    `0.50x` of memory and `2.0x` of other units as `Row` says; a time is so many times shorter.
    """
    peers = dict.fromkeys(row.beside for row in rows if row.peer)
    lines = dict[tuple[str, Unit], dict[str, Row]]()
    for row in rows:
        lines.setdefault((row.what, row.unit), {})[row.beside] = row
    table = [["what", "ours", *peers], ["---"] * (2 + len(peers))]
    for (what, unit), cells in lines.items():
        ours = next(iter(cells.values())).ours
        table.append([what, _figure(ours, unit), *(_cell(cells.get(peer)) for peer in peers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def missed(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each row whose ratio is not what is wanted."""
    for row in rows:
        if not row.reached and row.ratio is not None and row.wanted is not None:
            bound = "at most" if row.is_share else "at least"
            yield (
                f"{row.what}, beside {row.beside}: {_ratio(row.ratio)}, wanted {bound}"
                f" {_ratio(row.wanted)}"
            )


def _cell(row: Row | None) -> str:
    if row is None or row.peer is None or row.ratio is None:
        return ""
    return f"{_figure(row.peer, row.unit)}, {_ratio(row.ratio)}"


def _figure(figure: Figure, unit: Unit) -> str:
    return f"{_number(figure.value)} {unit.value}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.1f}x" if value >= 2 else f"{value:.2f}x" if value >= 0.01 else f"{value:.2g}x"
