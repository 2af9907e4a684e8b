"""Writes docs/study-file.md from the descriptions of the keys in the code; `make docs` runs it, a test holds the file to it."""

from pathlib import Path

from scaling.study_keys import Key, Section, described_sections, kind_sections, toml_value

__all__ = ["render"]

_HEADER = """\
# The study file

Written by `make docs` from the code; do not edit. A study file is TOML. `scaling init DATA -o study.toml` writes one for a data set, with all
keys and a grid that suits the data; `scaling show study.toml` prints every value and where it comes from. Every verb on studies takes
`--set SECTION.KEY=VALUE`. An unknown key, a wrong type or a value that is not valid is an error of one line.

Further axes of the grid are keys of `[grid]` that name an option of `[model]`, `[train]` or `[distill]`, with a list of its values:
`"model.norm" = ["rms", "layer"]`. Every combination is trained.

Sections that hold no required key may be left out.
"""


def _text(text: str) -> str:
    return text.replace("|", "\\|")


def _valid(key: Key) -> str:
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    return _text(key.valid) or "any"


def _default(key: Key) -> str:
    if key.is_required:
        return "**required**"
    return _text(key.otherwise) if key.default is None else f"`{toml_value(key.default)}`"


def _rows(section: Section) -> str:
    if not section.keys:
        return ""
    rows = [
        f"| `{key.name}` | {'one of' if key.choices and key.kind != 'boolean' else key.kind} | {_default(key)} | {_valid(key)} | "
        f"{_text(key.meaning)} |"
        for key in section.keys
    ]
    return "\n".join(
        [
            "",
            "| key | type | default | valid values | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def render() -> str:
    """Return the whole of docs/study-file.md."""
    parts = [_HEADER]
    for section in described_sections():
        meaning = section.meaning[0].upper() + section.meaning[1:]
        parts.append(f"## [{section.name}]\n\n{meaning}\n{_rows(section)}")
        if section.name == "model":
            parts += [
                f"### {one.name}\n\n{one.meaning}\n{_rows(one)}".replace("### model, ", "### With ")
                for one in kind_sections()
            ]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("study-file.md").write_text(render(), encoding="utf-8")
