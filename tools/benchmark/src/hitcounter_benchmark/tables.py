"""Tables of text, for a terminal. Pure."""

from collections.abc import Iterable, Sequence

Table = Sequence[Sequence[str]]
"""Rows of cells, all of one length; the first row names the columns, the first cell of the others the row."""


def show(number: float | None, form: str) -> str:
    """Return the number in the given form; nothing for None."""
    return "" if number is None else format(number, form)


def render_sections(sections: Iterable[tuple[str, Table]]) -> str:
    """Return titles and tables as text, the columns aligned."""
    return "\n\n".join(f"{title}\n{render_table(table)}" for title, table in sections)


def render_table(table: Table) -> str:
    """Return the table as text, names to the left and figures to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(_render_row(row, widths) for row in table)


def _render_row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip()
