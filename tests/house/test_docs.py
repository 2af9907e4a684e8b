"""Documentation that cannot rot: links lead somewhere, verbs are described, examples parse, blocks run."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer.main

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.cli.app import app
from scaling.records import RunRecord, RunStore
from scaling.study import RunConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = typer.main.get_command(app)


def load_make_cli():
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_cli = load_make_cli()
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_pages_parse(page):
    if page.name == "cli.md":
        return
    for block in re.findall(r"```(?:sh)?\n(.*?)```", page.read_text(), flags=re.DOTALL):
        for words in examples(block):
            command, rest = find_verb(words)
            command.make_context("scaling", rest)


def write_runs(root):
    """Runs that lie on a law, as `make study` would leave them."""
    runs = RunStore(root)
    for row, (name, grade) in enumerate(list(GRADES.items())[:4]):
        for n_samples in (4096, 16384, 65536, 262144):
            n_params = 2000 * 4**row
            config = RunConfig(
                name,
                grade,
                SuanOptions(),
                n_samples,
                0,
                64,
                1e-3,
                "decay",
                "independent",
                "0" * 64,
                10,
            )
            loss = 0.4 + 2 * n_params**-0.4 + 3 * n_samples**-0.3
            metrics = {"logloss": loss, "soft_logloss": loss, "soft_auc": 1 - loss}
            flops = 100 * n_params
            runs.write(
                RunRecord(
                    config,
                    n_params,
                    0,
                    flops,
                    3 * flops,
                    metrics,
                    loss,
                    1.0,
                    1.0,
                    1.0,
                    {"truth": None},
                )
            )


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    write_runs(tmp_path / "runs" / "quickstart")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "alpha" in capsys.readouterr().out


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
        *project["project"]["optional-dependencies"]["train"],
        *(r for group in ("test", "lint", "type") for r in project["dependency-groups"][group]),
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
