"""What is copied to a tracker, and when: with a tracker that only remembers."""

from dataclasses import replace

import pytest
from recorded_runs import config_of, edit_record, write_curve, write_run, write_study

from scaling.errors import UserError
from scaling.mirrors import TRACKERS, Counts, Mirrored, mirror_runs, open_mirror, read_facts
from scaling.records import RunStore, TeacherRecord


class Memory:
    """A mirror in memory."""

    def __init__(self, *, takes_unfinished=True):
        self.takes_unfinished = takes_unfinished
        self.points, self.results = {}, {}

    def held(self, run):
        if run.signature not in self.points:
            return None
        steps = [point.step for point in self.points[run.signature]]
        return Mirrored(max(steps, default=0), run.signature in self.results)

    def add(self, run, points):
        self.points.setdefault(run.signature, []).extend(points)
        if run.is_finished:
            self.results[run.signature] = run.results

    def close(self):
        pass


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "study")


def test_a_second_call_adds_nothing(runs):
    write_study(runs.root)
    memory = Memory()
    assert mirror_runs(read_facts(runs.root), memory) == Counts(new=4)
    assert mirror_runs(read_facts(runs.root), memory) == Counts(unchanged=4)


def test_a_run_that_goes_on_is_added_to_until_it_is_finished(runs):
    config, memory, counts = config_of(), Memory(), []
    for n_lines in (2, 2, 4):
        write_curve(runs, config, n_lines)
        counts.append(mirror_runs(read_facts(runs.root), memory))
    write_run(runs, config)
    counts.append(mirror_runs(read_facts(runs.root), memory))
    assert counts == [
        Counts(new=1), Counts(unchanged=1), Counts(continued=1), Counts(continued=1)
    ]  # fmt: skip
    assert [p.step for p in memory.points[config.signature]] == [10, 20, 30, 40, 50, 60]
    assert memory.results[config.signature]["test/logloss"] > 0.4


def test_a_resumed_run_whose_curve_is_shorter_again_adds_nothing_twice(runs):
    config, memory = config_of(), Memory()
    for n_lines in (4, 2, 5):
        write_curve(runs, config, n_lines)
        mirror_runs(read_facts(runs.root), memory)
    assert [p.step for p in memory.points[config.signature]] == [10, 20, 30, 40, 50]


def test_a_mirror_of_finished_runs_leaves_the_others_for_later(runs):
    write_curve(runs, config_of(seed=1), 3)
    write_run(runs, config_of())
    memory = Memory(takes_unfinished=False)
    assert mirror_runs(read_facts(runs.root), memory) == Counts(new=1, waiting=1)
    write_run(runs, config_of(seed=1))
    assert mirror_runs(read_facts(runs.root), memory) == Counts(new=1, unchanged=1)


def test_settings_are_the_whole_configuration_by_dotted_names(runs):
    write_run(runs, config_of())
    settings = read_facts(runs.root)[0].settings
    config = config_of()
    assert settings["grade.n_layers"] == config.grade.n_layers
    assert settings["learning_rate"] == 0.002
    assert settings["model.dropout"] == config.model.dropout
    assert "distill" not in settings


def test_settings_of_a_run_do_not_change_when_it_is_finished(runs):
    write_curve(runs, config_of(), 1)
    before = read_facts(runs.root)[0]
    write_run(runs, config_of())
    after = read_facts(runs.root)[0]
    assert (before.settings, before.tags) == (after.settings, after.tags)


def test_results_are_finite_and_say_what_they_are_of(runs):
    record = write_run(runs, config_of())
    teacher = TeacherRecord(1, 2, 3, {"auc": 0.75}, 0, 0)
    new = {"metrics": {"auc": 0.7}, "teacher": vars(teacher), "train_seconds": 60.0}
    path = runs.folder(record.signature) / "record.json"
    edit_record(path, lambda document: document.update(new))
    results = read_facts(runs.root)[0].results
    assert (results["test/auc"], results["teacher/auc"]) == (0.7, 0.75)
    assert results["run/train_seconds"] == 60.0


def test_a_point_has_the_time_of_the_start_and_the_training_since(runs):
    write_run(runs, config_of())
    run = read_facts(runs.root)[0]
    point = replace(run.curve[0], n_samples=1000, samples_per_second=10.0)
    assert run.seconds_at(point) == run.started + 100.0


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run has begun yet"):
        read_facts(tmp_path)


def test_a_damaged_configuration_is_named(runs):
    write_curve(runs, config_of())
    path = runs.folder(config_of().signature) / "config.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        read_facts(runs.root)


def test_a_damaged_run_is_left_out_and_named(runs, caplog):
    caplog.set_level("WARNING", "scaling")  # tests of --quiet change it
    write_study(runs.root)
    damaged = runs.folder(config_of().signature)
    (damaged / "record.json").write_text("{")
    assert len(read_facts(runs.root)) == 3
    assert f"left out: {damaged / 'record.json'}: not a JSON file" in caplog.text


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean tensorboard"):
        open_mirror("tensorbord", "anywhere")


def test_files_are_no_address(tmp_path):
    with pytest.raises(UserError, match="expected a folder; wandb is mirrored to files"):
        open_mirror("wandb", "https://example.org")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tensorboard", "tensorboard --logdir 'a b/m'"),
        ("mlflow", "mlflow ui --backend-store-uri 'sqlite:///a b/m'"),
        ("wandb", "wandb sync 'a b/m'/wandb/offline-run-*"),
    ],
)
def test_the_command_to_look_at_a_mirror_is_quoted_for_a_shell(name, command):
    assert TRACKERS[name].look("a b/m") == command
