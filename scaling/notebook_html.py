"""How results look in a notebook: a captioned table as HTML; every text is escaped."""

from collections.abc import Sequence
from html import escape

__all__ = ["notebook_table", "notebook_text"]


def notebook_table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
) -> str:
    """Return a table whose first column names the rows, with its caption above and notes below."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escape(text)}</td>" for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{below}"
    )


def notebook_text(text: str) -> str:
    """Return lines of text as they are."""
    return f"<pre>{escape(text)}</pre>"
