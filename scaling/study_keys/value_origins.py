"""Where each value of a study comes from: a line of its file, an override, or the default."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scaling.documents import parse_toml
from scaling.study import StudyConfig, override_value
from scaling.study_keys.described_keys import described_sections

__all__ = ["Setting", "flat", "key_lines", "settings_of"]


# what may hold a line end or a bracket, and these
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|\#[^\n]*|[\[\]{}\n]''',
    flags=re.DOTALL,
)


@dataclass(frozen=True)
class Setting:
    """A key of a study and its value.

    Attributes:
        key: e.g. `train.packing`.
        value: as the study has it; None: see `otherwise`.
        origin: `line 12`, `--set` or `default`.
        otherwise: what holds in place of a value, in words; empty if there is a value.
    """

    key: str
    value: Any
    origin: str
    otherwise: str = ""


def settings_of(study: StudyConfig, text: str, overrides: Sequence[str] = ()) -> list[Setting]:
    """Return every key of a study in the order of its sections.

    Args:
        study: as read from `text` with `overrides`.
        text: of the study file.
        overrides: texts `section.key=value`.
    """
    lines = key_lines(text)
    given = {key for override in overrides for key in _overridden(override)}
    described = {f"{s.name}.{key.name}": key for s in described_sections() for key in s.keys}
    return [
        Setting(
            key,
            value,
            _origin(key, lines, given),
            described[key].otherwise if value is None and key in described else "",
        )
        for key, value in flat(_document(study))
    ]


def key_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, at which each key of a TOML text is set; of a table, the line of its first key."""
    found: dict[str, int] = {}
    header = ""
    for line, statement in _statements(text):
        if statement.lstrip().startswith("["):
            header = statement
            statement = ""
        for key, _ in flat(parse_toml(header + statement)):
            found.setdefault(key, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each header and each key with its value, and the line at which it begins; the text is TOML."""
    begin, line, level, first = 0, 1, 0, 1
    for token in _TOKEN.finditer(text):
        level += (token[0] in "[{") - (token[0] in "]}")
        line += token[0].count("\n")
        if token[0] == "\n" and level == 0:
            yield first, text[begin : token.end()]
            begin, first = token.end(), line
    yield first, text[begin:]


def _document(study: StudyConfig) -> dict[str, Any]:
    """The study in the layout of its file."""
    document = asdict(study)
    axes = document["grid"].pop("axes")
    document["grid"] |= axes
    options = document["model"].pop("options")
    if set(study.kinds) <= {"suan", "lightsuan"}:  # the options of other kinds need torch
        (model,) = (section for section in described_sections() if section.name == "model")
        document["model"] |= {key.name: key.default for key in model.keys if key.name != "kind"}
    document["model"] |= options
    return {name: part for name, part in document.items() if part is not None}


def flat(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested tables, joined by points, and their values; an empty table is a value."""
    for name, value in part.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _overridden(override: str) -> list[str]:
    """The keys that an override sets; its value may be a whole table."""
    name, _, text = override.partition("=")
    return [key for key, _ in flat({name.strip(): override_value(text)})]


def _origin(key: str, lines: Mapping[str, int], given: set[str]) -> str:
    if key in given:
        return "--set"
    return f"line {lines[key]}" if key in lines else "default"
