"""Cells of a grid: which there are, in which order, and with which signatures."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
from small_studies import plan_of, study_and_facts

from scaling.errors import UserError
from scaling.strict_values import from_document
from scaling.study import RunConfig
from sweeps.planning import grid_cells


def test_a_grid_has_a_cell_for_each_combination(study_file):
    study, facts = study_and_facts(
        study_file, "grid.n_seeds=[3,2]", 'grid.model={norm=["rms","layer"]}'
    )
    cells = grid_cells(study, facts)
    assert len(cells) == 2 * (3 + 2) * 2
    assert len({cell.signature for cell in cells}) == len(cells)
    assert {cell.model.norm for cell in cells} == {"rms", "layer"}


def test_all_means_the_whole_training_part(study_file):
    study, facts = study_and_facts(study_file, 'grid.n_samples=[160,"all"]')
    assert {cell.n_samples for cell in grid_cells(study, facts)} == {160, 1200}


def test_more_samples_than_the_data_has_is_refused(study_file):
    study, facts = study_and_facts(study_file, "grid.n_samples=[1201]")
    with pytest.raises(UserError, match="1201 is more than the 1200 training impressions"):
        grid_cells(study, facts)


def test_two_names_for_one_grade_are_refused(study_file):
    own = "grades.own={n_layers=1,n_heads=1,d=2,max_len=8}"
    study, facts = study_and_facts(study_file, own, 'grid.grade=["SUAN-0","own"]')
    with pytest.raises(UserError, match="are the same run"):
        grid_cells(study, facts)


def test_a_suan_occurs_once_whatever_the_windows_of_a_lightsuan(study_file):
    study, facts = study_and_facts(
        study_file,
        'grid.grade=["SUAN-1","LightSUAN-1"]',
        "grid.model={window=[2,4],dilation=[2,4,8]}",
    )
    counts = Counter((cell.grade_name, cell.n_samples) for cell in grid_cells(study, facts))
    assert set(counts.values()) == {1, 6}
    assert counts["SUAN-1", 160] == 1


def test_workers_and_cluster_are_not_in_the_signature(study_file):
    plain, facts = study_and_facts(study_file)
    other, _ = study_and_facts(study_file, "slurm.gpus=2", "slurm.max_parallel=1", "slurm.cpus=3")
    assert grid_cells(plain, facts) == grid_cells(other, facts)


def test_an_edited_grid_keeps_the_signatures_of_the_cells_it_had(study_file):
    before, facts = study_and_facts(study_file)
    after, _ = study_and_facts(study_file, "grid.n_samples=[160,320,640]")
    old = {cell.signature for cell in grid_cells(before, facts)}
    assert old < {cell.signature for cell in grid_cells(after, facts)}


@pytest.mark.parametrize(
    "axis",
    ["model={dropout=[0,0.5]}", "train={learning_rate=[1,0.01]}", "train={batch_size=[8,16]}"],
)
def test_a_planned_cell_has_the_signature_of_its_document(study_file, axis):
    """A whole number on a float axis is a float for the planner and for the worker."""
    study, facts = study_and_facts(study_file, f"grid.{axis}")
    for cell in grid_cells(study, facts):
        document = json.loads(json.dumps(asdict(cell)))
        assert from_document(RunConfig, document, "job").signature == cell.signature


def test_the_multiple_of_a_rate_is_an_axis_of_the_plan(study_file):
    study_file.write_text(
        study_file.read_text().replace("[grid]", '[grid]\n"train.rate_multiple" = [0.5, 2.0]')
    )
    plan, _ = plan_of(study_file)
    assert {row["train.rate_multiple"] for row in plan.rows()} == {0.5, 2.0}
