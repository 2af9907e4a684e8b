"""What is published: a source archive like a checkout, a wheel that works by itself, a readme that leads nowhere wrong."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = shutil.ignore_patterns(
    ".git", ".*_cache", ".venv", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
)


def not_of_the_project(folder, names):
    """Caches, environments, builds, and at the top imported data and runs."""
    top = {"data", "runs"} if Path(folder) == ROOT else set()
    return FOREIGN(folder, names) | top


def run(*command, **options):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind, source, into):
    """Build an archive as pip and build do, without an environment of its own, and return its path."""
    into.mkdir()
    program = f"from setuptools import build_meta as b; print(b.build_{kind}({str(into)!r}))"
    run("-W", "ignore", "-c", program, cwd=source)
    [archive] = into.iterdir()
    return archive


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "source", ignore=not_of_the_project)
    return build("sdist", folder / "source", folder / "dist")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """A wheel that is built from the source archive, as an index's users get it."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return build("wheel", source, folder / "dist")


@pytest.mark.slow
def test_the_source_archive_has_studies_docs_tests_and_changelog(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "mkdocs.yml", "Makefile"}
    wanted |= {"SECURITY.md", "requirements-tested.txt"}
    for folder, pattern in (("studies", "*.toml"), ("docs", "*"), ("tests", "*.py")):
        wanted |= {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob(pattern)
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert wanted - names == set()


@pytest.mark.slow
def test_the_readme_of_the_package_has_no_link_that_leads_nowhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert text.startswith("# ctr-scaling")
    assert [link for link in re.findall(r"\]\(([^)]*)\)", text) if "://" not in link] == []


@pytest.mark.slow
def test_a_wheel_lists_and_copies_the_studies(wheel, tmp_path):
    """From the archive itself, which is not unpacked; dependencies come from this environment."""
    program = "from scaling.cli import main; main()"

    def scaling(*arguments):
        return run(
            *("-c", program, *arguments),
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(wheel), "PYTHONSAFEPATH": "1"},
        )

    listed = [line.split()[0] for line in scaling("studies").splitlines()[1:]]
    assert sorted(listed) == sorted(
        str(path.relative_to(ROOT / "studies").with_suffix(""))
        for path in (ROOT / "studies").rglob("*.toml")
    )
    scaling("studies", "paper/ffn", "-o", "copy.toml")
    assert (tmp_path / "copy.toml").read_text() == (ROOT / "studies/paper/ffn.toml").read_text()
