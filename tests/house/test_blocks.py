"""Every block of the pages is run, or says why not; what a page shows is what is printed."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from page_blocks import RUNNABLE, blocks, parse_commands, run_block
from page_folders import fill_folder

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if page.name not in ("cli.md", "study-file.md")  # written from the code
]
SLOW = ("docs/data.md", "docs/fitting.md", "docs/tutorial.md", "docs/studies/race.md")
SLOW += ("docs/extending.md",)


def name(page):
    return str(page.relative_to(ROOT))


PAGES_THAT_RUN = [
    pytest.param(page, id=name(page), marks=[pytest.mark.slow] if name(page) in SLOW else [])
    for page in PAGES
    if any(block.is_run for block in blocks(page))
]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_its_language(page):
    text = page.read_text(encoding="utf-8")
    assert len(blocks(page)) * 2 == len(re.findall("^```", text, flags=re.MULTILINE))
    languages = {*RUNNABLE, "toml", "text"}
    assert [block.line for block in blocks(page) if block.language not in languages] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page):
    for block in blocks(page):
        if block.language in ("bash", "console"):
            parse_commands(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_toml_blocks_are_toml(page):
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.timeout(1500)  # the tutorial trains 18 models
@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_blocks_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would who follows the page."""
    for folder in ("studies", "docs/studies", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    fill_folder(name(page), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_RUNS", raising=False)
    names = {}
    for block in blocks(page):
        if block.key == "file":
            Path(block.value).write_text(block.text, encoding="utf-8")
        elif block.is_run:
            run_block(block, names)
