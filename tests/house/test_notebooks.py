"""Every notebook of `examples/` runs from top to bottom in a real kernel and shows its results."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", ())]


def figures(notebook):
    return [o for o in outputs(notebook) if "image/png" in o.get("data", ())]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_top_to_bottom(path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    committed = json.loads(path.read_text(encoding="utf-8"))
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    shown = outputs(notebook)
    assert [o for o in shown if o.output_type == "stream" and o.name == "stderr"] == []
    assert len(figures(notebook)) == len(figures(committed))
    tables = [o.data["text/html"] for o in shown if "text/html" in o.get("data", ())]
    assert sum("<caption>" in table for table in tables) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_with_the_outputs_of_one_clean_run(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert figures(notebook)
    assert not re.search(r"/(?:home|tmp|work|root)/", path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 300_000
