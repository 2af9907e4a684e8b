"""A page as one HTML file that loads nothing from elsewhere: style, script and figures are inline.

The markup is in `page.html.j2`, the style in `page.css`, sorting and filtering in `page.js`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.page.blocks import Block, Details, Figure, Page, Section, Table
from analysis.report.page.svg_theme import dark_colour, inline_svg

__all__ = ["render_html"]


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["id"] = id
# A command or a name in a sentence, as it is written for a terminal.
_CODE = re.compile(r"`([^`]+)`")


def render_html(page: Page) -> str:
    """Return the HTML document; every text is escaped."""
    anchors = _anchors(page)
    drawings: dict[int, Markup] = {}
    colours = {"#000000", "#ffffff"}
    widths = set()
    for block in _all(page.shown):
        if isinstance(block, Figure):
            svg, used = inline_svg(block.svg, f"f{len(drawings)}")
            # our own drawing, whose texts matplotlib has escaped
            drawings[id(block)] = Markup(svg)
            colours |= used
        elif isinstance(block, Table):
            widths.add(block.least_rem)
    return _ENVIRONMENT.get_template("page.html.j2").render(
        page=page,
        anchors=anchors,
        drawings=drawings,
        theme=[(colour[1:], colour, dark_colour(colour)) for colour in sorted(colours)],
        widths=sorted(widths),
        css_text=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")) if _has_sortable(page) else "",
    )


def _with_code(text: str) -> Markup:
    """Escape a text; what stands between backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


_ENVIRONMENT.filters["with_code"] = _with_code


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip()


def _has_sortable(page: Page) -> bool:
    return any(isinstance(block, Table) and block.sortable for block in _all(page.shown))


def _all(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        if not block.is_empty:
            yield block
            if isinstance(block, Section | Details):
                yield from _all(block.parts)


def _anchors(page: Page) -> dict[int, str]:
    """The anchor of each section, by its id; distinct ones get distinct anchors.

    Closed sections have that of the first one inside: only a link to what is inside opens them.
    """
    anchors: dict[int, str] = {}
    taken: set[str] = set()
    for block in _all(page.shown):
        if isinstance(block, Section):
            slug = re.sub(r"[^a-z0-9]+", "-", block.title.lower()).strip("-") or "section"
            count, name = 1, slug
            while name in taken:
                count += 1
                name = f"{slug}-{count}"
            taken.add(name)
            anchors[id(block)] = name
    for block in page.shown:
        if isinstance(block, Details):
            anchors[id(block)] = next(
                anchors[id(one)] for one in _all(block.parts) if id(one) in anchors
            )
    return anchors
