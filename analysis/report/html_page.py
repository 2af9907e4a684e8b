"""A self-contained HTML page: headings, tables and inline pictures; nothing is loaded from anywhere."""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["definitions", "figure", "number", "page", "paragraph", "section", "table"]


# Longer entries of a table may wrap; names of grades and laws stay on one line.
_PROSE = 40

_STYLE = """
:root { --ink: #1c2430; --soft: #5a6675; --line: #dfe3e8; --tint: #f5f7f9; --warn: #9a5b00; }
* { box-sizing: border-box; }
body { color: var(--ink); background: #fff; margin: 0 auto; padding: 2.5rem 1.5rem 4rem;
  max-width: 62rem; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.7rem 0 .4rem; }
p { margin: .5rem 0; max-width: 48rem; }
p.lead, figcaption, .note { color: var(--soft); }
p.warn { color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  margin: .6rem 0 1rem; }
th, td { padding: .28rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #c3cad3; vertical-align: bottom; }
th.text, td.text { text-align: left; }
th.prose, td.prose { white-space: normal; min-width: 16rem; }
tbody tr:nth-child(even) { background: var(--tint); }
figure { margin: 1.2rem 0 1.8rem; }
figure img { width: 100%; max-width: 54rem; height: auto; display: block; }
figcaption { font-size: .88rem; margin-top: .3rem; max-width: 50rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem;
  font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } }
"""


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """The whole document."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n</body>\n</html>\n'
    )


def section(title: str, parts: Iterable[str], level: int = 2) -> str:
    """A heading and what follows it; nothing at all when nothing follows."""
    body = "\n".join(part for part in parts if part)
    return f"<h{level}>{escape(title)}</h{level}>\n{body}" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is "", "note" or "warn"."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; columns that hold only numbers are aligned right, only those of sentences wrap."""
    if not rows:
        return ""
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    css = ["" if is_number else ' class="text"' for is_number in numeric]
    for i in range(len(header)):
        if not numeric[i] and any(len(_text(row[i])) > _PROSE for row in rows):
            css[i] = ' class="text prose"'
    head = "".join(f"<th{c}>{escape(name)}</th>" for name, c in zip(header, css, strict=True))
    lines = [
        "<tr>"
        + "".join(f"<td{c}>{escape(_text(value))}</td>" for value, c in zip(row, css, strict=True))
        + "</tr>"
        for row in rows
    ]
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items]
    return "<dl>\n" + "\n".join(lines) + "\n</dl>" if lines else ""


def figure(png: bytes, caption: str) -> str:
    """A picture with its caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def number(value: float, digits: int = 4) -> str:
    """A number for a table: rounded, with thousands separators, or a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    if abs(value) >= 1e5 or abs(value) < 1e-4:
        return f"{value:.{max(digits - 1, 1)}e}"
    return f"{value:.{digits}g}" if abs(value) >= 1 else f"{value:.{digits}f}"


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("–", "") or value.lstrip("+-")[:1].isdigit()
    return isinstance(value, int | float)


def _text(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
