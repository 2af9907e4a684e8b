"""Documentation that cannot rot: links lead somewhere, verbs are described, examples parse."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from scaling.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = typer.main.get_command(app)


def load_maker(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_cli = load_maker("make_cli")
VERBS = make_cli.verbs()


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def examples(text):
    """Every `scaling ...` command of a text, in code blocks and help alike, as words."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"^(?:\$ |Example: )?scaling ((?!-h|--help).+)$", joined, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def find_verb(words):
    """Return the command that `words` name, and its arguments."""
    command, rest = COMMAND, list(words)
    while hasattr(command, "commands"):
        assert rest, f"{words} is not a whole command"
        assert rest[0] in command.commands, f"there is no verb {rest[0]}"
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = links(ROOT / "docs" / "README.md")
    for page in PAGES[2:]:
        assert page.name == "README.md" or str(page.relative_to(ROOT / "docs")) in index


def test_the_command_line_page_is_the_live_help():
    assert (ROOT / "docs" / "cli.md").read_text() == make_cli.render(), "run `make docs`"


def test_the_page_of_the_study_file_is_that_of_the_code():
    page = load_maker("make_study_file").render()
    assert (ROOT / "docs" / "study-file.md").read_text() == page, "run `make docs`"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself(verb):
    command, _ = find_verb(verb)
    text = " ".join(make_cli.help_text(verb).split())
    assert f"Example: scaling {' '.join(verb)} " in text + " "
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(verb)}: {parameter.name} has no help"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_example_of_every_verb_parses(verb):
    command, _ = find_verb(verb)
    for words in examples("\n".join(line.strip() for line in command.help.splitlines())):
        found, rest = find_verb(words)
        assert found is command
        found.make_context("scaling", rest)


def test_the_makefile_tells_its_targets():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: help (.+)$", makefile, flags=re.MULTILINE)[1].split()
    for target in phony:
        assert f'@echo "make {target} ' in makefile


def test_pins_satisfy_the_ranges_of_pyproject():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    asked = [
        *project["project"]["dependencies"],
        *(r for extra in project["project"]["optional-dependencies"].values() for r in extra),
        *(
            r
            for group in project["dependency-groups"].values()
            for r in group
            if isinstance(r, str)
        ),
    ]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page):
    """As `room/module.py`; a short name after a full one, such as `grid.py`, is one of that kind."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:models|scaling|sweeps|analysis|tests|benchmarks|studies)/[\w./-]+)`", text
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
