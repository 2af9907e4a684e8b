"""Tables and the live view on a terminal, drawn by rich: numbers are never cut, long texts wrap.

Imported only if stdout is a terminal.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from scaling.cli.tables import Table

__all__ = ["LiveView", "folded", "live_view", "print_on_terminal", "renderable"]


_MOST_ROWS = 1000  # rich needs about a second for so many
_GAP = 2  # spaces between two columns
_CONTINUED = "    "  # before the rest of a long line
_LEAST_TEXT = 30  # a longer text may wrap, to no less than this width or its longest word


def print_on_terminal(parts: Sequence[str | Table]) -> None:
    """Print texts and tables fitted to the terminal's width; very long tables stay plain."""
    console = Console(highlight=False)
    for part in parts:
        if isinstance(part, Table) and len(part.rows) <= _MOST_ROWS:
            # a column wider than the terminal is left to the terminal to wrap
            wide = Console(width=max(console.width, *_block_widths(part, console.width)))
            wide.print(renderable(part, console.width))
        else:
            console.print(Text(folded(str(part), console.width)), soft_wrap=True)


def folded(text: str, width: int) -> str:
    """Return the text with longer lines broken at spaces, so that no number is cut; a longer word stays whole."""
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=_CONTINUED,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    lines = text.split("\n")
    return "\n".join(
        piece for line in lines for piece in ([line] if len(line) <= width else wrapper.wrap(line))
    )


class LiveView:
    """Redraws parts of text in place, as far as they fit on the screen; at the end, the whole is printed below each other."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.whole: Sequence[str | Table] = ()

    def show(
        self, parts: Sequence[str | Table], whole: Sequence[str | Table] | None = None
    ) -> None:
        """Draw the parts in place of the former ones, cut at the foot of the screen.

        Args:
            parts: from top to bottom.
            whole: what is printed if this was the last time; default: the parts.
        """
        self.whole = parts if whole is None else whole
        screen = self._live.console
        drawn: list[RenderableType] = []
        for part in parts:
            if isinstance(part, Table):
                visible = Table(part.header, part.rows[: screen.height])
                drawn.append(renderable(visible, screen.width))
            else:
                drawn.append(Text(part))
        self._live.update(Group(*drawn), refresh=True)


@contextmanager
def live_view() -> Iterator[LiveView]:
    """Yield a view that is redrawn in place."""
    live = Live(console=Console(), auto_refresh=False, transient=True)
    view = LiveView(live)
    try:
        with live:
            yield view
    finally:
        print_on_terminal(view.whole)


def renderable(table: Table, width: int) -> RenderableType:
    """Return the table for `width` columns of characters.

    If its columns do not fit side by side, it is split into blocks of columns; each block begins with the
    first column.
    """
    first, *others = [_block(table, columns) for columns in _blocks(table, width)]
    return Group(first, *(part for block in others for part in (Text(), block)))


def _block_widths(table: Table, width: int) -> list[int]:
    """The least width of each block, in characters."""
    blocks = _blocks(table, width)
    return [sum(_least_width(table, i) + _GAP for i in block) - _GAP for block in blocks]


def _blocks(table: Table, width: int) -> Iterator[list[int]]:
    """The columns of each block, from left to right."""
    least = [_least_width(table, column) for column in range(len(table.header))]
    block = [0]
    for column in range(1, len(least)):
        needed = sum(least[i] + _GAP for i in block) + least[column]
        if needed > width and len(block) > 1:
            yield block
            block = [0]
        block.append(column)
    yield block


def _least_width(table: Table, column: int) -> int:
    texts = [table.header[column], *(row[column] for row in table.cells)]
    full = max(map(len, texts))
    if table.numeric[column]:
        return full
    longest_word = max((len(word) for text in texts for word in text.split()), default=0)
    return min(full, max(longest_word, _LEAST_TEXT))


def _block(table: Table, columns: Sequence[int]) -> RichTable:
    drawn = RichTable(box=None, padding=(0, _GAP // 2), pad_edge=False)
    for column in columns:
        is_numeric = table.numeric[column]
        drawn.add_column(
            Text(table.header[column], style="bold"),
            justify="right" if is_numeric else "left",
            no_wrap=is_numeric,
            min_width=_least_width(table, column),
        )
    for row in table.cells:
        drawn.add_row(*(Text(row[i], style=table.style(i, row[i])) for i in columns))
    return drawn
