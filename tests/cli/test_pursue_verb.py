"""`scaling pursue`: rounds, restarts, budget, one pursuit at a time. Training is replaced by the law with noise."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from recorded_runs import edit_record
from slurm_sweep import fake_sweep

from analysis.laws import Additive
from scaling.cli.app import main
from scaling.cli.sweep import pursue_verb
from scaling.records import PURSUIT_LOG, RunRecord, claim, read_rounds, remove_work_files
from scaling.study import GoalConfig
from sweeps.dispatch import Prices

LAW = {"E": 0.4, "A": 5.0, "B": 3.0, "alpha": 0.6, "beta": 0.5}
GRID = """\
[grid]
grade = ["SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3"]
n_samples = [20, 40, 80, 160, 320]
n_seeds = 3
"""


def goal(width=0.3, flops=1e12, more=""):
    return f'[goal]\nquantity = "alpha"\nwidth = {width}\nflops = {flops}\n{more}\n'


class Pursued:
    """A study that is pursued with a substitute for training; `calls` has the chosen cells of each round."""

    def __init__(self, study_file, capsys, monkeypatch):
        self.study, self.capsys, self.calls = study_file, capsys, []
        self.root = study_file.parent / "runs" / "tiny"
        self.at_most = None
        monkeypatch.setattr(pursue_verb, "train_cells", self.train)
        text = study_file.read_text()
        self.head = text[: text.index("[grid]")]
        self.write(goal())

    def write(self, text, grid=GRID):
        self.study.write_text(self.head + grid + text)

    def train(self, request):
        made, store = pursue_verb.load_plan(request.study, request.overrides, request.runs)
        cells = [c for c in made.cells if c.config.signature in request.signatures and c.goes_on]
        self.calls.append([cell.config.signature for cell in cells])
        for cell in cells[: self.at_most]:
            n, size = cell.config.n_samples, cell.size
            noise = np.random.default_rng(int(cell.config.signature[:8], 16)).normal(0, 1e-3)
            value = float(Additive()(LAW, float(size.n_params), float(n))) + noise
            metrics = {
                "logloss": value,
                "logloss_stderr": 0.0,
                "auc": 0.7,
                "auc_stderr": 0.0,
                "n_rows": 10.0,
            }
            store.write(
                RunRecord(
                    cell.config, size.n_params, size.n_embedding_params, size.flops_per_sample,
                    cell.flops, metrics, 0.5, 1.0, 1.0, 1.0, {"attempts": []},
                )
            )  # fmt: skip
        return 0

    def __call__(self, *arguments, code=0):
        with pytest.raises(SystemExit) as exited:
            main(["pursue", str(self.study), *map(str, arguments)])
        out, err = self.capsys.readouterr()
        assert exited.value.code == code, err
        return out + err

    @property
    def rounds(self):
        return read_rounds(self.root)


@pytest.fixture
def pursued(study_file, capsys, monkeypatch):
    # the figures of the report are tested elsewhere and take seconds
    monkeypatch.setattr("analysis.report.analyse", lambda *_, **__: SimpleNamespace(text="report"))
    return Pursued(study_file, capsys, monkeypatch)


def test_a_goal_is_reached_and_a_second_call_changes_nothing(pursued):
    out = pursued()
    assert "the width wanted, 0.3, is reached" in out
    before = (pursued.root / PURSUIT_LOG).read_bytes()
    calls = len(pursued.calls)
    assert "is reached" in pursued()
    assert (pursued.root / PURSUIT_LOG).read_bytes() == before
    assert len(pursued.calls) == calls


def test_a_pursuit_killed_after_its_choice_trains_that_choice(pursued, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pursue_verb, "train_cells", killed)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        main(["pursue", str(pursued.study)])
    chosen = pursued.rounds[-1].cells
    monkeypatch.setattr(pursue_verb, "train_cells", pursued.train)
    pursued("--once")
    assert set(pursued.calls[0]) == set(chosen)
    assert len(pursued.rounds) == 1


@pytest.mark.slow
def test_the_rounds_with_and_without_stops_are_the_same(pursued):
    for _ in range(30):
        if pursued.rounds and pursued.rounds[-1].kind == "end":
            break
        pursued("--once")
    stopped = [one.cells for one in pursued.rounds]
    pursued.root.rename(pursued.root.with_name("stopped"))
    pursued()
    assert [one.cells for one in pursued.rounds] == stopped


@pytest.mark.slow
def test_the_budget_is_not_exceeded(pursued):
    pursued.write(goal(width=1e-4, flops=2e9))
    out = pursued(code=1)
    assert "the end: the budget is spent" in out
    assert 1e9 < pursued.rounds[-1].spent <= 2e9


@pytest.mark.parametrize(("share", "all_fit"), [(1.2, False), (1.3, True)])
def test_core_hours_leave_room_for_a_slow_machine(pursued, share, all_fit):
    made, _ = pursue_verb.load_plan(pursued.study, [], None)
    hours = sum(made.gpu_seconds(cell) for cell in made.cells) / 3600
    wanted = GoalConfig(quantity="alpha", width=0.1, core_hours=share * hours)
    assert (len(Prices(made, wanted).affordable(made.cells)) == len(made.cells)) is all_fit


@pytest.mark.slow
def test_a_larger_budget_goes_on(pursued):
    pursued.write(goal(width=0.02, flops=5e8))
    pursued(code=1)
    before = pursued.rounds
    pursued.write(goal(width=0.02, flops=2e9))
    pursued(code=1)
    assert pursued.rounds[: len(before)] == before
    assert len(pursued.rounds) > len(before)
    assert sum(1 - one.level for one in pursued.rounds if one.claims) <= 0.05


@pytest.mark.parametrize("share", ["false", "true"])
def test_cells_that_the_grid_no_longer_has_stay_paid(pursued, share):
    train = f"[train]\nshare_prefix = {share}\n"
    pursued.write(train + goal(width=1e-4))
    pursued("--once")
    pursued("--once")
    spent = pursued.rounds[-1].spent
    pursued.write(train + goal(width=1e-4), GRID.replace("20, 40, 80, 160", "24, 48, 96"))
    pursued("--once")
    assert pursued.rounds[-1].spent >= spent > 0


def test_attempts_of_a_cell_that_the_grid_no_longer_has_count_in_core_hours(pursued):
    pursued.write(goal(width=1e-4))
    pursued("--once")
    path = pursued.root / pursued.calls[0][0] / "record.json"
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T02:00:00+00:00"}
    attempts = [{"id": "a", "number": 1, **times}]
    edit_record(path, lambda document: document["provenance"].update(attempts=attempts))
    hours = goal(width=1e-4).replace("flops = 1000000000000.0", "core_hours = 9.0")
    pursued.write(hours, GRID.replace("20, 40, 80, 160", "24, 48, 96"))
    pursued("--once")
    assert pursued.rounds[-1].spent == pytest.approx(2.0)


def test_cells_that_never_finish_end_the_call(pursued):
    pursued.at_most = 0
    assert "none of its cells is done" in pursued(code=1)
    assert len(pursued.calls) == 1


def test_a_living_pursuit_keeps_others_out(pursued):
    lease = claim(pursued.root / "pursuit", done=lambda: False)
    assert "is pursuing this study" in pursued(code=2)
    lease.close()
    remove_work_files(pursued.root / "pursuit")
    pursued()


@pytest.mark.slow
def test_more_seeds_than_the_grid_has_are_chosen_if_allowed(pursued):
    pursued.write(
        goal(width=1e-4, flops=5e8, more="n_seeds = 6"), GRID.replace("seeds = 3", "seeds = 1")
    )
    pursued(code=1)
    assert any(label.endswith("s5") for one in pursued.rounds for label in one.labels)


def test_another_goal_in_the_same_log_is_refused(pursued):
    pursued("--once")
    pursued.write(goal().replace("alpha", "beta"))
    assert "pursues alpha (additive), not beta" in pursued(code=2)


def test_another_metric_in_the_same_log_is_refused(pursued):
    assert "is reached" in pursued()
    assert "pursues alpha of logloss (additive), not alpha of auc" in pursued(
        "--set", "goal.metric=auc", code=2
    )
    assert "nonsense is no metric" in pursued("--set", "goal.metric=nonsense", code=2)
    own = pursued("--set", "goal.metric=nonsense", "--falling", code=2)
    assert "not alpha of nonsense" in own
    assert "is reached" in pursued("--set", "goal.metric=logloss")


@pytest.mark.slow
def test_sizes_that_are_added_after_the_end_go_on(pursued):
    small = GRID.replace("20, 40, 80, 160, 320", "20, 40, 80").replace("n_seeds = 3", "n_seeds = 1")
    pursued.write(goal(width=1e-4), small)
    assert "every cell of the grid is trained; add sizes" in pursued(code=1)
    n_rounds = len(pursued.rounds)
    pursued.write(goal(width=1e-4), small.replace("80]", "80, 160]"))
    pursued("--once")
    assert len(pursued.rounds) > n_rounds


def test_a_log_of_an_earlier_version_goes_on(pursued):
    pursued()
    path = pursued.root / PURSUIT_LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["metric"], line["next_is_last"], line["n_left"]
        line["quantity"] = "alpha (additive)"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "is reached" in pursued()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "goal: missing; pursue needs e.g."),
        (goal().replace("alpha", "alfa"), "goal.quantity: .*did you mean alpha"),
        (goal() + '[distill]\nteacher = "SUAN-3"\n', "a study with a teacher cannot be pursued"),
    ],
)
def test_a_study_that_cannot_be_pursued_is_refused_before_anything_is_written(
    pursued, text, message
):
    pursued.write(text)
    assert re.search(message, pursued(code=2))
    assert not pursued.root.exists()


def test_two_sizes_are_no_grid_for_a_pursuit(pursued):
    pursued.write(goal(), GRID.replace("20, 40, 80, 160, 320", "160, 320"))
    assert "grid.n_samples: 2 sizes, a pursuit needs 3" in pursued(code=2)


def test_on_slurm_a_round_is_queued_once(tmp_path, monkeypatch, capsys, tiny_store):
    sweep = fake_sweep(tmp_path, capsys, monkeypatch)
    sweep.write(tiny_store, GRID, f"cells_per_job = 1\n{goal()}")
    out = sweep("pursue", sweep.study, "--cluster", "slurm", "--once")
    assert "submitted" in out
    (line,) = (sweep.runs.root / PURSUIT_LOG).read_text().splitlines()
    n_cells = len(json.loads(line)["cells"])
    assert len(sweep.queue()) == n_cells > 0
    assert "round 1 is under way" in sweep("pursue", sweep.study, "--cluster", "slurm", "--once")
    assert len(sweep.queue()) == n_cells
    assert (sweep.runs.root / PURSUIT_LOG).read_text().splitlines() == [line]
