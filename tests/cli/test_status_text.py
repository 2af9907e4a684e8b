"""What `scaling status` says of a sweep: totals, the time to go, the law so far."""

from types import SimpleNamespace

import pytest
from recorded_runs import config_of, write_run, write_study

from scaling.cli.sweep.status_views import watch_loop
from scaling.cli.sweep.status_views.law_so_far import LawSoFar
from scaling.cli.sweep.status_views.status_text import totals_text
from scaling.records import RunStore

TOTALS = {
    "n_cells": 8,
    "states": {"done": 3, "running": 2, "missing": 3},
    "gpu_hours_spent": 0.5,
    "gpu_hours_to_do": 1.5,
    "eta_seconds": 190.0,
    "all_cells_eta_seconds": 190.0,
    "eta_unknown": "",
    "n_at_once": 2,
    "pace": 1.1,
    "queue": "known",
}


def test_totals_name_states_costs_and_the_time_to_go():
    assert totals_text(TOTALS) == (
        "3/8 cells done, 2 running, 3 missing; 0.50 GPU-hours spent, about 1.50 to do; "
        "about 3:10 to go, 2 at once"
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"all_cells_eta_seconds": 700.0}, "about 3:10 to go for these, about 12:00 for all, 2 at once"),
        ({"pace": None}, "about 3:10 to go, 2 at once (by estimates, no speed is measured yet)"),
        (
            {"eta_seconds": None, "all_cells_eta_seconds": None, "eta_unknown": "no cell runs yet"},
            "time to go unknown: no cell runs yet",
        ),
        ({"eta_seconds": None, "all_cells_eta_seconds": None}, "about 1.50 to do"),
        ({"queue": "squeue gave no answer"}, "; state of the queue unknown: squeue gave no answer"),
    ],
)  # fmt: skip
def test_the_time_to_go_says_what_it_is_of_and_rests_on(changes, end):
    assert totals_text(TOTALS | changes).endswith(end)


def finished(records):
    return frozenset(record.signature for record in records)


def test_a_law_that_the_runs_do_not_determine_says_so(tmp_path):
    law = LawSoFar(tmp_path)
    law.finish(finished(write_study(tmp_path)))
    heading = str(law.parts()[1])
    assert "logloss = " in heading
    assert "too_few_points" in heading


def test_runs_that_no_law_can_be_fitted_to_are_a_line(tmp_path):
    law = LawSoFar(tmp_path)
    record = write_run(RunStore(tmp_path), config_of())
    (tmp_path / record.signature / "record.json").write_text("{}")
    law.finish(finished([record]))
    assert str(law.parts()[1]).startswith("no law yet: ")


def test_the_law_is_fitted_again_only_if_other_runs_have_finished(tmp_path):
    law, records = LawSoFar(tmp_path), write_study(tmp_path)
    for _ in range(3):
        law.finish(finished(records))
    assert law.n_fits == 1
    records.append(write_run(RunStore(tmp_path), config_of(seed=1)))
    law.finish(finished(records))
    assert law.n_fits == 2


def test_between_two_fits_there_is_a_rest_that_grows_with_their_time(tmp_path, monkeypatch):
    law, records = LawSoFar(tmp_path), write_study(tmp_path)
    law.finish(finished(records))
    records.append(write_run(RunStore(tmp_path), config_of(seed=1)))
    monkeypatch.setattr(law, "_not_before", float("inf"))
    law.look(finished(records))
    assert law.n_fits == 1
    law.finish(finished(records))  # the last look waits for no rest
    assert law.n_fits == 2


def test_before_a_run_has_finished_there_is_no_law(tmp_path):
    law = LawSoFar(tmp_path)
    law.finish(frozenset())
    assert law.parts() == []


@pytest.mark.parametrize(
    ("seen", "n_looks"),
    [
        (["missing"], 1),  # nothing has begun
        (["running", "done"], 2),
        (["running", "failed"], 2),  # waits for the user
        # between two cells of a local sweep, no process runs for some seconds
        (["running", "missing", "missing", "running", "done"], 5),
        (["running", *["missing"] * 9], 7),
    ],
)
def test_a_sweep_is_watched_over_the_gaps_between_its_cells(monkeypatch, seen, n_looks):
    def plan(standing):
        cell = SimpleNamespace(standing=standing, goes_on=standing == "missing")
        return SimpleNamespace(
            cells=[cell], with_standing=lambda *names: [c for c in [cell] if standing in names]
        )

    plans = iter([plan(standing) for standing in seen])
    monkeypatch.setattr(watch_loop, "load_study_and_store", lambda *_: (None, None))
    monkeypatch.setattr(watch_loop, "load_plan", lambda *_, **__: (next(plans), None))
    monkeypatch.setattr("sweeps.queue.ask_queue", lambda *_: [])
    monkeypatch.setattr("sweeps.queue.read_submissions", lambda *_: [])
    looks = list(watch_loop._looks(None, None, None))
    assert [is_last for _, is_last in looks] == [False] * (n_looks - 1) + [True]
