"""Runs in TensorBoard, MLflow and W&B, read back with what each of them reads with. Run: make mirror-test."""

import json
import struct
from dataclasses import replace
from types import SimpleNamespace

import pytest
from recorded_runs import config_of, write_curve, write_run, write_study

from scaling.errors import UserError
from scaling.mirrors import Counts, mirror_runs, open_mirror, read_facts
from scaling.records import RunStore

# their own deprecations are not ours
pytestmark = [pytest.mark.mirrors, pytest.mark.filterwarnings("default")]

STEPS = [10, 20, 30, 40, 50, 60]


def mirror(folder, name, place):
    target = open_mirror(name, str(place))
    try:
        return mirror_runs(read_facts(folder), target)
    finally:
        target.close()


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "study")


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path):
        pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
        self.place = tmp_path / "events"

    def read(self):
        """The one run, as TensorBoard's own reader sees it."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        [folder] = self.place.iterdir()
        found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        return found.Reload()

    def test_the_curve_and_the_results_are_read_back(self, runs):
        record = write_run(runs, config_of())
        mirror(runs.root, "tensorboard", self.place)
        [run], found = read_facts(runs.root), self.read()
        losses = found.Scalars("train/loss")
        assert [event.step for event in losses] == STEPS
        # event files hold single precision
        expected = [point.loss for point in run.curve]
        assert [event.value for event in losses] == pytest.approx(expected, rel=1e-7)
        assert losses[0].wall_time == run.seconds_at(run.curve[0])
        [logloss] = found.Scalars("test/logloss")
        assert logloss.value == pytest.approx(record.metrics["logloss"], rel=1e-7)

    def test_settings_are_in_the_tab_of_hyperparameters(self, runs):
        from tensorboard.plugins.hparams import metadata

        write_run(runs, config_of())
        mirror(runs.root, "tensorboard", self.place)
        content = self.read().PluginTagToContent("hparams")["_hparams_/session_start_info"]
        hparams = metadata.parse_session_start_info_plugin_data(content).hparams
        assert hparams["n_samples"].number_value == 4096
        assert hparams["grade"].string_value == "SUAN-0"
        assert hparams["signature"].string_value == config_of().signature

    def test_calls_while_a_run_is_trained_give_each_point_once(self, runs):
        for n_lines in (1, 4, 4):
            write_curve(runs, config_of(), n_lines)
            mirror(runs.root, "tensorboard", self.place)
        write_run(runs, config_of())
        for _ in range(2):
            mirror(runs.root, "tensorboard", self.place)
        found = self.read()
        assert [event.step for event in found.Scalars("train/loss")] == STEPS
        assert len(found.Scalars("test/logloss")) == 1

    def test_a_reader_that_stays_open_sees_what_is_added(self, runs):
        write_curve(runs, config_of(), 2)
        mirror(runs.root, "tensorboard", self.place)
        found = self.read()
        write_run(runs, config_of())
        mirror(runs.root, "tensorboard", self.place)
        assert [event.step for event in found.Reload().Scalars("train/loss")] == STEPS


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One file for all tests, as MLflow takes seconds to make it; studies have names of their own."""
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package, reason="needs the extra mlflow")
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


class TestMlflow:
    @pytest.fixture(autouse=True)
    def _client(self, database, request, tmp_path):
        from mlflow.tracking import MlflowClient

        self.place, self.client = database, MlflowClient(f"sqlite:///{database}")
        self.runs = RunStore(tmp_path / request.node.name)

    def found(self):
        experiment = self.client.get_experiment_by_name(self.runs.root.name)
        return self.client.search_runs([experiment.experiment_id])

    def history(self, run, name):
        found = self.client.get_metric_history(run.info.run_id, name)
        return sorted((metric.step, metric.value) for metric in found)

    def test_a_run_is_read_back(self):
        record = write_run(self.runs, config_of())
        mirror(self.runs.root, "mlflow", self.place)
        [facts], [run] = read_facts(self.runs.root), self.found()
        assert run.info.status == "FINISHED"
        assert run.info.run_name == facts.label
        assert run.data.tags.items() >= facts.tags.items()
        assert run.data.params == {name: str(value) for name, value in facts.settings.items()}
        assert run.data.metrics["test/logloss"] == record.metrics["logloss"]
        assert self.history(run, "train/loss") == [(p.step, p.loss) for p in facts.curve]
        assert run.info.start_time == facts.started * 1000

    def test_calls_while_a_run_is_trained_give_each_point_once(self):
        for n_lines in (1, 4, 4):
            write_curve(self.runs, config_of(), n_lines)
            mirror(self.runs.root, "mlflow", self.place)
        assert [run.info.status for run in self.found()] == ["RUNNING"]
        write_run(self.runs, config_of())
        for _ in range(2):
            mirror(self.runs.root, "mlflow", self.place)
        [run] = self.found()
        assert run.info.status == "FINISHED"
        assert [step for step, _ in self.history(run, "train/loss")] == STEPS
        assert len(self.history(run, "test/logloss")) == 1

    def test_a_call_that_was_cut_off_before_the_end_is_completed(self):
        from mlflow.tracking import MlflowClient

        write_run(self.runs, config_of())
        target = open_mirror("mlflow", str(self.place))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MlflowClient, "set_terminated", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mirror_runs(read_facts(self.runs.root), target)
        assert mirror(self.runs.root, "mlflow", self.place) == Counts(continued=1)
        [run] = self.found()
        assert run.info.status == "FINISHED"
        assert [step for step, _ in self.history(run, "train/loss")] == STEPS
        assert len(self.history(run, "test/logloss")) == 1

    @pytest.mark.parametrize("name", ["file/mlflow.db", "text.db"])
    def test_a_place_that_cannot_be_a_database_is_refused_at_once(self, tmp_path, name):
        (tmp_path / "file").touch()
        (tmp_path / "text.db").write_text("no database " * 100)
        for place in (tmp_path / name, f"sqlite:///{tmp_path / name}"):
            with pytest.raises(UserError, match="cannot be opened as an SQLite file"):
                open_mirror("mlflow", str(place))

    def test_a_server_that_is_down_is_one_line(self, monkeypatch, caplog):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        write_run(self.runs, config_of())
        with pytest.raises(UserError) as raised:
            mirror(self.runs.root, "mlflow", "http://127.0.0.1:9")
        assert str(raised.value) == (
            "http://127.0.0.1:9: no MLflow server answers (Connection refused); start it, or name another place with --into"
        )
        assert not [one for one in caplog.records if one.name.startswith("urllib3")]

    def test_runs_are_found_by_tag(self):
        write_study(self.runs.root)
        mirror(self.runs.root, "mlflow", self.place)
        experiment = self.client.get_experiment_by_name(self.runs.root.name)
        found = self.client.search_runs([experiment.experiment_id], "tags.grade = 'SUAN-1'")
        assert {run.data.params["n_samples"] for run in found} == {"4096", "8192"}


def wandb_records(path):
    """The messages of a run's file: blocks of 32 KiB with pieces of records, as in LevelDB's log, after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts, size = path.read_bytes(), 7, [], 32 * 1024
    while at + 7 <= len(content):
        if size - at % size < 7:
            at += size - at % size
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield Record.FromString(b"".join(parts))
            parts = []


def wandb_run(path):
    """A run's settings, history by step and summary."""
    values = {"config": {}, "summary": {}, "history": {}, "run": None, "exit_code": None}

    def items(update):
        return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in update}

    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            values["run"] = record.run
            values["config"] |= items(record.run.config.update)
        elif kind == "summary":
            values["summary"] |= items(record.summary.update)
        elif kind == "history":
            values["history"][record.history.step.num] = items(record.history.item)
        elif kind == "exit":
            values["exit_code"] = record.exit.exit_code
    return SimpleNamespace(**values)


class TestWandb:
    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path, monkeypatch):
        pytest.importorskip("wandb", reason="needs the extra wandb")
        monkeypatch.setenv("WANDB_MODE", "online")  # what a user may have set does not count
        self.place = tmp_path / "mirrors"

    def files(self):
        return sorted(self.place.glob("wandb/offline-run-*/run-*.wandb"))

    def test_a_run_is_read_back(self, runs):
        record = write_run(runs, config_of())
        mirror(runs.root, "wandb", self.place)
        [facts], [path] = read_facts(runs.root), self.files()
        run = wandb_run(path)
        assert (run.run.run_id, run.run.project) == (record.signature, "study")
        assert run.run.display_name == facts.label
        assert set(run.run.tags) == {"SUAN-0", "D=4096", "seed=0"}
        assert run.config.items() >= facts.settings.items()
        assert run.summary["test/logloss"] == record.metrics["logloss"]
        assert {step: line["train/loss"] for step, line in run.history.items()} == {
            point.step: point.loss for point in facts.curve
        }
        assert run.exit_code == 0

    def test_a_second_call_writes_no_second_run(self, runs):
        write_study(runs.root)
        assert mirror(runs.root, "wandb", self.place) == Counts(new=4)
        before = self.files()
        assert mirror(runs.root, "wandb", self.place) == Counts(unchanged=4)
        assert (len(before), self.files()) == (4, before)

    def test_a_call_that_was_cut_off_leaves_no_run(self, runs):
        from wandb.sdk.wandb_run import Run

        write_run(runs, config_of())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "log", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mirror(runs.root, "wandb", self.place)
        assert self.files() == []
        assert mirror(runs.root, "wandb", self.place) == Counts(new=1)

    def test_its_own_program_finds_the_runs(self, runs):
        import subprocess
        import sys

        write_run(runs, config_of())
        mirror(runs.root, "wandb", self.place)
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--dry-run"],
            cwd=self.place, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert config_of().signature in done.stdout + done.stderr


def test_a_slash_in_a_name_of_a_grade_makes_no_folder(runs, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    write_run(runs, replace(config_of(), grade_name="own/SUAN-0"))
    mirror(runs.root, "tensorboard", tmp_path / "events")
    [folder] = (tmp_path / "events").iterdir()
    assert list(folder.glob("events.out.tfevents.*"))
