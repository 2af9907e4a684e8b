"""What tests of classes from elsewhere use."""

import sys

import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module and return the kind of its class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def module(text, cls="Own"):
        name = f"own_module_{tmp_path.name}_{len(names)}".replace("-", "_")
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:{cls}"

    yield module
    for name in names:
        sys.modules.pop(name, None)
