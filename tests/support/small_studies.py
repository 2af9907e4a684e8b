"""A study on the tiny store, and its plan."""

from pathlib import Path

from scaling.records import RunStore
from scaling.study import DataFacts, StudyConfig, data_facts, load_study
from sweeps.planning import Plan, make_plan


def study_and_facts(study_file: Path, *overrides: str) -> tuple[StudyConfig, DataFacts]:
    """Read a study file with overrides, and the facts of its store."""
    study = load_study(study_file, overrides)
    return study, data_facts(study.data)


def plan_of(study_file: Path, *overrides: str, root: str = "runs") -> tuple[Plan, RunStore]:
    """Plan a study with overrides against the runs folder `root` beside its file."""
    study, facts = study_and_facts(study_file, *overrides)
    runs = RunStore(study_file.parent / root)
    return make_plan(study, facts, runs), runs
