"""Every key of a study file: its type and default from the frozen sections, its meaning from their docstrings.

The valid numbers of a key are what the section itself says when it refuses an absurd one.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.kinds import KINDS, options_type
from models.model_options import SuanOptions
from scaling.study import GoalConfig, RateLaw, StudyConfig

__all__ = ["Key", "Section", "described_sections", "kind_sections"]


_WORDS = {str: "string", int: "integer", float: "number", bool: "boolean"}
# No number is as large as the first or as small as the second.
_ABSURD = (10**12, -1)


@dataclass(frozen=True)
class Key:
    """A key of a section.

    Attributes:
        name: as written in the file.
        kind: its type in TOML, e.g. `list of integers`.
        choices: the only valid values; empty: any of that type.
        valid: the valid numbers, in the words of the refusal; empty if there is no limit, or the type says it all.
        default: the value without the key; None: see `otherwise`, or the key is required.
        otherwise: what holds without the key, in words; empty if `default` says it.
        is_required: whether the section needs it.
        meaning: in one or several sentences.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    valid: str
    default: Any
    otherwise: str
    is_required: bool
    meaning: str


@dataclass(frozen=True)
class Section:
    """A section of the file.

    Attributes:
        name: as in its header, e.g. `slurm.grades.NAME`.
        meaning: of the section as a whole.
        keys: in the order of the code.
        is_optional: whether the section is left out unless it is wanted, because it has required keys.
    """

    name: str
    meaning: str
    keys: tuple[Key, ...]
    is_optional: bool = False


def described_sections() -> tuple[Section, ...]:
    """Return all sections, in the order of a usual file; `[model]` with the options of a SUAN."""
    from scaling.synthetic import SyntheticConfig

    parts = {name: _parts(hint)[0] for name, hint in get_type_hints(StudyConfig).items()}
    grade, own_slurm = (_member(get_type_hints(o)["grades"]) for o in (StudyConfig, parts["slurm"]))
    model = _section("model", parts["model"], left_out=("options",))
    options = _section("model", SuanOptions, left_out=("kind",)).keys
    slurm = _section("slurm", parts["slurm"], left_out=("grades",))
    return (
        _section("study", parts["study"]),
        _section("data", parts["data"], left_out=("generate",)),
        _section("data.generate", SyntheticConfig, is_optional=True),
        _section("grid", parts["grid"], left_out=("axes",)),
        Section("model", model.meaning, (*model.keys, *options)),
        _section("train", parts["train"], left_out=("rate_law",)),
        _section("train.rate_law", RateLaw, is_optional=True),
        _section("distill", parts["distill"]),
        _section("grades.NAME", grade, is_optional=True),
        slurm,
        _section("slurm.grades.NAME", own_slurm, general=slurm, is_optional=True),
        _section("run", parts["run"]),
        _section("goal", parts["goal"], is_optional=True),
    )


def kind_sections() -> tuple[Section, ...]:
    """Return `[model]` once for each kind that is no SUAN, with the options of that kind. Needs torch."""
    return tuple(
        _section(f'model, kind = "{kind}"', options_type(kind))
        for kind in KINDS
        if options_type(kind) is not SuanOptions
    )


def _section(
    name: str,
    kind: Any,
    *,
    left_out: tuple[str, ...] = (),
    general: Section | None = None,
    is_optional: bool = False,
) -> Section:
    """Describe a frozen dataclass.

    Args:
        name: of the section.
        kind: the dataclass.
        left_out: fields that are no keys of this section.
        general: the section whose keys these replace; it has their meanings, and its values hold without them.
        is_optional: see `Section`.
    """
    own = _texts(kind)
    if general is not None:
        own = {k.name: f"{k.meaning} Default: as in `[{general.name}]`." for k in general.keys}
    hints = get_type_hints(kind)
    keys = tuple(
        _key(kind, field, hints[field.name], own)
        for field in fields(kind)
        if field.name not in left_out
    )
    return Section(name, _summary(kind), keys, is_optional)


def _key(owner: Any, field: Field[Any], hint: Any, texts: Mapping[str, str]) -> Key:
    default = field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    is_required = default is MISSING
    if is_required:
        default = None
    meaning, otherwise = _split_default(texts[field.name])
    return Key(
        name=field.name,
        kind=_kind(hint),
        choices=_choices(hint),
        valid=_valid(owner, field.name, hint),
        default=default,
        otherwise=otherwise if default is None else "",
        is_required=is_required and not otherwise,
        meaning=meaning,
    )


def _summary(kind: Any) -> str:
    """The first paragraph of a docstring, without the name of the section before it."""
    text = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return re.sub(r"^`\[[^`]*\]`: ", "", " ".join(text.split()))


def _texts(kind: Any) -> dict[str, str]:
    """The meanings in the docstring's `Attributes:`, by key; a line may name several keys."""
    _, _, block = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in block.splitlines():
        start = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2])
        elif line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return {name: text[0].upper() + text[1:] for name, text in found.items()}


def _split_default(text: str) -> tuple[str, str]:
    """A meaning without its sentence `Default: ...`, and that sentence's end."""
    found = re.search(r" ?Default: (.*?)(?:\.(?= |$))", text)
    if found is None:
        return text, ""
    return (text[: found.start()] + text[found.end() :]).strip(), found[1]


def _member(hint: Any) -> Any:
    """The type of the values of a table."""
    return get_args(hint)[1]


def _parts(hint: Any) -> list[Any]:
    """The alternatives of a type, None left out."""
    if get_origin(hint) in (Union, UnionType):
        return [part for one in get_args(hint) if one is not NoneType for part in _parts(one)]
    return [hint]


def _kind(hint: Any, plural: bool = False) -> str:
    words = []
    for part in _parts(hint):
        if get_origin(part) is Literal:
            values = get_args(part)
            words.append(" or ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in values))
        elif get_origin(part) is tuple and Ellipsis in get_args(part):
            words.append(f"list of {_kind(get_args(part)[0], plural=True)}")
        elif get_origin(part) is tuple:
            words.append("list of " + ", ".join(_kind(one) for one in get_args(part)))
        elif get_origin(part) is dict:
            values = _member(part)
            words.append("table" if values is Any else f"table of {_kind(values, plural=True)}")
        else:
            words.append(_WORDS[part] + ("s" if plural else ""))
    return " or ".join(words)


def _choices(hint: Any) -> tuple[str, ...]:
    """The values of a key that has no others."""
    parts = _parts(hint)
    if not all(get_origin(part) is Literal for part in parts):
        return ("true", "false") if parts == [bool] else ()
    values = [value for part in parts for value in get_args(part)]
    return tuple(f'"{v}"' if isinstance(v, str) else str(v) for v in values)


def _valid(owner: Any, name: str, hint: Any) -> str:
    """The valid numbers of a key, from what its section says of an absurd one."""
    if not {int, float} & set(_parts(hint)):
        return ""
    said = []
    for value in _ABSURD:
        try:
            owner(**{**_least(owner), name: value})
        except (ValueError, TypeError) as error:
            _, expected, text = str(error).partition("expected ")
            if expected and re.match(rf"\W*{name}\b", str(error)):
                said.append(text)
    # the limits on both sides, if the section knows both; otherwise the lower one
    both = [text for text in said if re.search(r"\bto\b|\band\b|<", text)]
    return (both or said[-1:] or [""])[0]


def _least(owner: Any) -> dict[str, Any]:
    """Values of the required keys with which a section can be built."""
    values: dict[str, Any] = {}
    for field in fields(owner):
        if field.default is MISSING and field.default_factory is MISSING:
            kind = get_type_hints(owner)[field.name]
            values[field.name] = "x" if str in _parts(kind) else 1
    if owner is RateLaw:
        values["factor"] = 1.0
    if owner is GoalConfig:
        values |= {"quantity": "alpha", "core_hours": 1.0}
    return values
