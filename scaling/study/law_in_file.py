"""Writes a rate law into the text of a study file and leaves all other text as it is."""

import re
from dataclasses import asdict

from scaling.documents import parse_toml
from scaling.errors import UserError
from scaling.study.rate_law import RateLaw

__all__ = ["with_rate_law"]


_HEADER = """\
[train.rate_law]  # fitted by `scaling tune`
# peak rate = factor x the recipe's x (width / token_width)^width_exponent (D / n_samples)^samples_exponent
"""
# The comment and the level of the laws that were written at first.
_OLD_FORMULA = (
    "# peak rate = learning_rate (D / token_width)^width_exponent (n / n_samples)^samples_exponent"
)
_LEVEL = re.compile(r"(?ms)(^\s*\[\s*train\s*\.\s*rate_law\s*\].*?^\s*)learning_rate(\s*=)")


def with_rate_law(text: str, law: RateLaw) -> str:
    """Return the text of a study file with `law` as its `[train.rate_law]`.

    A law that is there gets the new values in its place, with its comments; a new one comes at the end of the file.

    Raises:
        UserError: the text has no place for it.
    """
    import tomlkit  # here, because every plan imports this room, and few write a law

    expected = parse_toml(text)
    first = {"factor": law.factor, "learning_rate": law.learning_rate}
    values = {k: v for k, v in {**first, **asdict(law)}.items() if v is not None}
    lines = "".join(f"{key} = {value!r}\n" for key, value in values.items())
    train = expected.setdefault("train", {})
    if "factor" in values and "learning_rate" in train.get("rate_law", {}):
        text = _LEVEL.sub(r"\1factor\2", text, count=1)
        text = text.replace(_OLD_FORMULA, _HEADER.splitlines()[1])
    document = tomlkit.parse(text)
    if "rate_law" in train:
        there = document["train"]["rate_law"]
        for key in set(first).difference(values).intersection(there):
            del there[key]
        for key, value in values.items():
            there[key] = value
        new = document.as_string()
    elif isinstance(document.get("train"), tomlkit.items.InlineTable):
        inline = tomlkit.inline_table()
        inline.update(values)
        document["train"]["rate_law"] = inline
        new = document.as_string()
    else:
        newline = "\r\n" if "\r\n" in text else "\n"
        gap = newline if text.endswith("\n") else 2 * newline
        new = text + gap + (_HEADER + lines).replace("\n", newline)
    train["rate_law"] = values
    if _parsed(new) != expected:
        raise UserError(
            f"train: no place for a rate law; write it by hand: rate_law = {{ {', '.join(lines.split(chr(10))[:-1])} }}"
        )
    return new


def _parsed(text: str) -> object:
    try:
        return parse_toml(text)
    except ValueError:
        return None
