"""Whenever the power fails while a piece of a sharded import is made: it is not there, or all of it is."""

import json

import pytest
from power_failures import folders_after_power_failures

PIECE = """
from scaling.importers.pipeline.engine import Limits
from scaling.importers.pipeline.sharded.work_folder import ShardedImport

def prepare(folder):
    (folder / ".store.import" / "plan").mkdir(parents=True)

def write(folder):
    def fill(piece):
        (piece / "rows").write_text("all rows")
        return {"n": 1}

    # what is imported does not matter to a piece
    one = ShardedImport(None, folder, folder / "store", {}, Limits(), 1, "plan")
    one.make("read", 0, fill)
"""


@pytest.mark.slow
def test_a_piece_is_not_there_or_whole(tmp_path):
    folders = folders_after_power_failures(PIECE, tmp_path)
    pieces = [p for f in folders for p in f.glob(".store.import/plan/read/*")]
    assert 0 < len(pieces) < len(folders)
    for piece in pieces:
        assert json.loads((piece / "piece.json").read_text())["n"] == 1
        assert (piece / "rows").read_text() == "all rows"
