"""The list of verbs in a help text: the first sentence of each, whole; it wraps where it is long."""

import re
from typing import Any

from typer.core import TyperGroup

__all__ = ["WholeSummaries"]


class WholeSummaries(TyperGroup):
    """A group of verbs whose help does not cut their summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs with their first sentences."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _first_sentence(verb.help or "")) for name, verb in verbs if verb]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]
