"""On a real cluster: needs sbatch on the path and idle nodes (`pytest -m slurm`)."""

import shutil
import time

import pytest

from scaling.config import load_study
from scaling.dataset import data_facts
from scaling.errors import UserError
from scaling.records import RunStore
from sweeps.dispatch import submit_slurm
from sweeps.plan import make_plan

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("sbatch") is None, reason="there is no sbatch on the path"),
]


def plan_of(study_file, *overrides):
    study = load_study(study_file, ["slurm.memory_gib=0.6", "slurm.time_minutes=5", *overrides])
    runs = RunStore(study_file.parent / "runs")
    return make_plan(study, data_facts(study.data), runs), runs


def test_an_array_trains_every_cell(study_file):
    plan, runs = plan_of(study_file)
    submission = submit_slurm(plan, runs, plan.cells)
    assert len(submission.jobs) == 4
    deadline = time.monotonic() + 100
    while len(runs.read_all()) < 4 and time.monotonic() < deadline:
        time.sleep(1)
    assert {cell.config.signature for cell in plan.cells} == {r.signature for r in runs.read_all()}


def test_a_partition_that_does_not_exist_is_one_line(study_file):
    plan, runs = plan_of(study_file, 'slurm.partition="nope"')
    with pytest.raises(UserError, match="invalid partition specified: nope"):
        submit_slurm(plan, runs, plan.cells)
