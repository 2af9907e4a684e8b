"""A page as Markdown, for a wiki, a pull request or a chat; its figures are files beside it."""

from collections.abc import Sequence

from analysis.report.page.blocks import (
    Answers,
    Block,
    Commands,
    Definitions,
    Details,
    Figure,
    Page,
    Paragraph,
    Section,
    Table,
)

__all__ = ["render_markdown"]


_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>#|"})


def render_markdown(page: Page, figures: str = "figures") -> str:
    """Return the page as Markdown with tables; every text is escaped.

    Args:
        page: what is told.
        figures: the folder of the figures, as seen from the file.
    """
    parts = [f"# {_plain(page.title)}", _plain(page.lead)]
    parts += _of(page.shown, figures)
    return "\n\n".join(parts) + "\n"


def _of(blocks: Sequence[Block], figures: str) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        if block.is_empty:
            continue
        match block:
            case Section():
                heading = f"{'#' * block.level} {_plain(block.title)}"
                parts += [heading, *_of(block.parts, figures)]
            case Details():
                parts += _of(block.parts, figures)
            case Paragraph():
                parts.append(_plain(block.text))
            case Answers():
                parts.append("\n".join(_answer_lines(block)))
            case Table():
                parts.append(_table(block))
            case Definitions():
                parts.append("\n".join(f"- **{_plain(t)}**: {_plain(m)}" for t, m in block.items))
            case Commands():
                parts.append("\n".join(["```", *block.lines, "```"]))
            case Figure():
                parts.append(_figure(block, figures))
    return parts


def _answer_lines(block: Answers) -> list[str]:
    lines = []
    for one in block.answers:
        detail = f" ({'; '.join(map(_plain, one.detail))})" if one.detail else ""
        lines.append(f"- **{_plain(one.asked)}**: {_plain(one.value)}{detail}")
    return lines


def _table(block: Table) -> str:
    rules = ["---" if css else "---:" for css in block.css_classes]
    rows = [map(_plain, block.header), rules, *(map(_plain, row) for row in block.texts)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*([_plain(block.caption), ""] if block.caption else []), *lines])


def _figure(block: Figure, figures: str) -> str:
    text = f"{_plain(block.finding)}. {_plain(block.caption)}"
    if not block.file:
        return text
    return f"![{_plain(block.finding)}]({figures}/{block.file}.png)\n\n{text}"


def _plain(text: str) -> str:
    return " ".join(text.split()).translate(_SPECIAL)
