"""A study file in which every key stands with its meaning: those that are set, and the others commented out.

A line `#key = value` holds the key's default, so that a file without its `#` is the same study. A line `#key =` has none.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.study_keys.described_keys import Key, described_sections

__all__ = ["commented_study", "toml_value"]


_WIDTH = 118  # columns of the comments


def commented_study(header: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a study file.

    Args:
        header: lines of the comment at its beginning.
        values: for each section that has some, the keys that are set.
    """
    lines = [f"# {line}".rstrip() for line in header]
    lines += [
        "#",
        "# Lines that begin with `# ` explain. A line `#key = value` is a default: without its # nothing changes.",
        "# A line `#key =` has no such value; its comment says what holds without it.",
    ]
    for section in described_sections():
        set_here = values.get(section.name, {})
        is_off = section.is_optional and not set_here
        lines += ["", *_comment(section.meaning)]
        lines.append(f"{'#' * is_off}[{section.name}]")
        for key in section.keys:
            lines += _key_lines(key, set_here)
        if section.name == "grid":
            lines += _AXES
    return "\n".join(lines) + "\n"


_AXES = (
    "# Further axes of the grid are options of [model], [train] or [distill] with several values, e.g.",
    '#   "model.norm" = ["rms", "layer"]',
)


def toml_value(value: Any) -> str:
    """Return a value as TOML, on one line.

    Args:
        value: a boolean, number, text, or a sequence or mapping of these.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_name(str(k))} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def _name(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else _quoted(key)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key_lines(key: Key, set_here: Mapping[str, Any]) -> list[str]:
    limits = f", {key.valid}" if key.valid else ""
    fallback = ", required" if key.is_required else ""
    if key.name in set_here and key.default is not None:
        fallback = f"; default: {toml_value(key.default)}"
    elif key.otherwise:
        fallback = f"; default: {key.otherwise}"
    lines = _comment(f"{key.meaning} ({key.kind}{limits}{fallback})")
    if key.name in set_here:
        return [*lines, f"{key.name} = {toml_value(set_here[key.name])}"]
    default = "" if key.default is None else f" {toml_value(key.default)}"
    return [*lines, f"#{key.name} ={default}"]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text[0].upper() + text[1:], _WIDTH)]
