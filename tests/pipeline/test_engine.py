"""The engine of an import, interrupted while it starts."""

import subprocess
import sys
import threading

import pytest

from scaling.importers.pipeline import Limits
from scaling.importers.pipeline.engine import Engine, Progress


def engine(folder):
    return Engine(folder, Limits(threads=1), Progress({"reading": 1.0}, None))


def test_an_interrupt_while_the_watcher_starts_leaves_no_thread(tmp_path, monkeypatch):
    """A running thread would keep the database open until the process ends."""
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), engine(tmp_path):
        pass
    assert threading.active_count() == before


@pytest.mark.slow
def test_pandas_is_imported_before_the_first_query(tmp_path):
    """DuckDB imports pandas while it fetches, and would report an interrupt there as a missing pandas."""
    code = """
import sys
from pathlib import Path
from scaling.importers.pipeline.engine import Engine, Limits, Progress
with Engine(Path(sys.argv[1]), Limits(threads=1), Progress({}, None)):
    print("pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout == "True\n"
