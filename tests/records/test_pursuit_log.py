"""The log of a pursuit comes back as written, and a damaged line is named."""

import json
from dataclasses import replace

import pytest

from scaling.errors import UserError
from scaling.records import PURSUIT_LOG, PursuitRound, append_round, read_rounds

ROUND = PursuitRound(
    1, "2026-01-01T00:00:00+00:00", "narrow", "alpha (additive)", 0.1, "converged", 9, 0.3, 0.2, None, 0.95, False,
    ("a1", "b2"), ("x", "y"), 0.12, 1.5, 2.0, 10.0, "core-hours", True, 0.975, False, "why",
)  # fmt: skip


def test_rounds_come_back_as_written(tmp_path):
    other = replace(ROUND, number=2, upper=0.4)
    append_round(tmp_path, [], ROUND)
    before = (tmp_path / PURSUIT_LOG).read_text()
    append_round(tmp_path, [ROUND], other)
    assert read_rounds(tmp_path) == [ROUND, other]
    assert (tmp_path / PURSUIT_LOG).read_text().startswith(before)


def test_a_round_of_an_earlier_version_is_read(tmp_path):
    append_round(tmp_path, [], ROUND)
    path = tmp_path / PURSUIT_LOG
    document = json.loads(path.read_text())
    del document["metric"], document["next_is_last"], document["n_left"]
    path.write_text(json.dumps(document) + "\n")
    assert read_rounds(tmp_path) == [ROUND]


def test_an_open_side_has_no_width():
    assert ROUND.width is None
    assert replace(ROUND, upper=0.5).width == pytest.approx(0.3)


def test_no_log_is_no_rounds(tmp_path):
    assert read_rounds(tmp_path) == []


@pytest.mark.parametrize("text", ["{", '{"number": 1}', "\n"])
def test_a_damaged_line_is_named(tmp_path, text):
    append_round(tmp_path, [], ROUND)
    with (tmp_path / PURSUIT_LOG).open("a") as file:
        file.write(text + "\n")
    with pytest.raises(UserError, match=r"pursuit\.jsonl: line 2"):
        read_rounds(tmp_path)
