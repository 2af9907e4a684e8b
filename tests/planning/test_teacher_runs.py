"""Teachers in a study: grades by name, the cells that have one, and the finished run from which a warm one starts."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from models.accounting import model_size
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.cli.app import main
from scaling.errors import UserError
from scaling.records import RunStore
from scaling.study import data_facts, load_study, recipe_for
from scaling.training import train_run
from sweeps.dispatch.job_contents import cell_job
from sweeps.dispatch.worker import run_cells
from sweeps.planning import grid_cells, teacher_folders
from sweeps.queue import survey


def write_study(path, store, grid, distill="", rest=""):
    path.write_text(
        f'[study]\nname = "tiny"\n[data]\npath = "{store.path}"\n'
        f'[grid]\n{grid}\n[distill]\n{distill}\n[train]\ndata_order = "shared"\n{rest}\n'
    )
    return load_study(path)


@pytest.fixture
def cells_of(tmp_path, tiny_store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def cells(grid, distill="", rest=""):
        study = write_study(tmp_path / "study.toml", tiny_store, grid, distill, rest)
        return grid_cells(study, data_facts(study.data))

    return cells


def test_a_light_grade_has_the_sizes_of_its_suan(cells_of):
    grid = 'grade = ["SUAN-2", "LightSUAN-2"]\nn_samples = [160]'
    plain, light = cells_of(grid, rest="[model]\nwindow = 4")
    assert plain.grade == light.grade == GRADES["SUAN-2"]
    assert (light.model.kind, light.model.window, light.model.dilation) == ("lightsuan", 4, 16)
    assert plain.model == SuanOptions()


def test_a_teacher_and_a_student_are_all_that_a_study_must_say(cells_of, tiny_store):
    (cell,) = cells_of("n_samples = [160]", 'teacher = "SUAN-5"\nstudent = "LightSUAN-2"')
    assert (cell.grade_name, cell.model.kind) == ("LightSUAN-2", "lightsuan")
    own = cell.distill
    assert (own.teacher_name, own.teacher, own.model) == ("SUAN-5", GRADES["SUAN-5"], SuanOptions())
    width = GRADES["SUAN-5"].d * len(tiny_store.schema.behaviour)
    assert own.learning_rate == recipe_for(160, width).learning_rate
    assert cell.label == "LightSUAN-2 after SUAN-5 D=160 s0"


def test_the_axes_of_a_teacher_are_not_crossed_with_cells_that_have_none(cells_of):
    grid = """grade = ["LightSUAN-1", "SUAN-2"]
n_samples = [160]
n_seeds = 2
"distill.teacher" = ["none", "SUAN-2", "SUAN-3"]
"distill.weight" = [1.0, 4.0]"""
    cells = cells_of(grid, 'student = "LightSUAN-1"')
    taught = [cell for cell in cells if cell.distill is not None]
    assert len(taught) == 2 * 2 * 2
    assert {cell.grade_name for cell in taught} == {"LightSUAN-1"}
    assert sorted(c.label for c in cells if c.distill is None) == [
        "LightSUAN-1 D=160 s0", "LightSUAN-1 D=160 s1", "SUAN-2 D=160 s0", "SUAN-2 D=160 s1"
    ]  # fmt: skip


def test_a_study_without_a_teacher_keeps_its_cells(cells_of):
    """The signatures of runs without a teacher stay the same, so that none is trained again."""
    plain = cells_of('grade = ["SUAN-1"]\nn_samples = [160]')
    taught = cells_of(
        'grade = ["SUAN-1"]\nn_samples = [160]\n"distill.teacher" = ["none", "SUAN-2"]'
    )
    assert taught[0] == plain[0]
    assert taught[0].signature == plain[0].signature != taught[1].signature


@pytest.mark.parametrize(
    ("grid", "distill", "message"),
    [
        ("", 'teacher = "SUAN-22"', "distill.teacher: there is no grade SUAN-22, did you mean SUAN-2?"),
        ('"distill.teacher" = ["none", "SAUN-3"]', "", "there is no grade SAUN-3, did you mean SUAN-3?"),
        ("", "weight = 2.0", 'distill.teacher: missing; name a grade, e.g. "SUAN-5"'),
        ("", 'teacher = "SUAN-2"\nweight = -1.0', "distill: weight is -1,"),
        ("", 'teacher = "SUAN-2"\ntemperature = 0.0', "temperature is 0,"),
        ("", 'teacher = "SUAN-2"\nstudent = "SUAN-3"', "SUAN-3 is not in the grid"),
        ("", 'teacher = "SUAN-2"\nfreeze_teacher = true', "needs a teacher_init"),
        ("", 'teacher = "SUAN-2"\nteacher_samples = 160', "needs a teacher_init"),
        ("", 'teacher = "SUAN-2"\nteacher_samples = -7', "teacher_samples is -7"),
        ("", 'teacher = "SUAN-2"\nteacher_samples = "most"', "an integer or 'largest' or 'same', got 'most'"),
        ("", 'teacher = "SUAN-2"\nstudent = []', "student is empty"),
        ("", 'teacher = "SUAN-2"\ntemperature = 1e20', "expected a number from 0.001 to 1000"),
        ("", 'teacher = "SUAN-2"\nweight = 1e30', "expected a number from 0 to 1e+06"),
        ("", f'teacher = "SUAN-2"\nteacher_init = "{"a" * 300}"', "aaa: no such folder"),
        ('"distill.teacher" = ["SUAN-2", "SUAN-2"]', "", "grid.distill.teacher: SUAN-2 is given twice"),
        ("", 'teacher = "LightSUAN-22"', "there is no grade LightSUAN-22, did you mean LightSUAN-2?"),
        ("", 'teacher = "SUAN-2"\nlambda = 2', "distill.lambda: unknown key"),
        ("", 'teacher = "SUAN-2"\nshare_embeddings = true', "SUAN-2 has d = 5 and SUAN-1 d = 3"),
        ("", 'teacher = "SUAN-2"\nteacher_init = "nowhere"', "nowhere: no such folder"),
        ('"train.packing" = ["none", "stretch"]', 'teacher = "SUAN-2"', "cannot share stretches"),
        ('"distill.student" = ["SUAN-1"]', 'teacher = "SUAN-2"', "is not an axis; set it in [distill]"),
    ],
)  # fmt: skip
def test_a_bad_teacher_is_an_error_of_one_line(cells_of, grid, distill, message):
    with pytest.raises(UserError) as error:
        cells_of(f'grade = ["SUAN-1"]\nn_samples = [160]\n{grid}', distill)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("verb", "count"),
    [
        (["plan"], 1),
        (["submit", "--cluster", "debug", "--only", "grade=SUAN-1"], 1),
        (["status"], 0),
    ],
)
def test_verbs_that_plan_warn_of_a_student_larger_than_its_teacher(cells_of, capsys, verb, count):
    cells_of('grade = ["SUAN-2", "SUAN-1"]\nn_samples = [160]', 'teacher = "SUAN-1"')
    with pytest.raises(SystemExit):
        main([verb[0], "study.toml", *verb[1:]])
    warnings = capsys.readouterr().err
    assert warnings.count("the student SUAN-2 is larger than its teacher SUAN-1") == count


@pytest.fixture(scope="module")
def before(tiny_store, tmp_path_factory):
    """A study's folder with a SUAN-1 of two sizes and two seeds."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("before")
    study = write_study(
        folder / "s.toml", tiny_store, 'grade = ["SUAN-1"]\nn_samples = [160, 320]\nn_seeds = 2'
    )
    runs = RunStore(folder / "runs")
    for cell in grid_cells(study, data_facts(study.data)):
        train_run(cell, tiny_store, runs)
    return runs


GRID = 'grade = ["LightSUAN-0"]\nn_samples = [160]\nn_seeds = 2'


def teachers_of(cells, runs):
    return [runs.read(cell.distill.teacher_init).config for cell in cells]


def test_a_warm_teacher_is_the_run_of_its_grade_and_the_students_seed(cells_of, before):
    distill = f'teacher = "SUAN-1"\nteacher_init = "{before.root}"\n'
    found = teachers_of(cells_of(GRID, distill), before)
    assert [(c.grade_name, c.n_samples, c.seed) for c in found] == [
        ("SUAN-1", 320, 0),
        ("SUAN-1", 320, 1),
    ]
    found = teachers_of(cells_of(GRID, distill + 'teacher_samples = "same"'), before)
    assert [(c.n_samples, c.seed) for c in found] == [(160, 0), (160, 1)]
    run = before.folder(found[1].signature)
    cells = cells_of(GRID, f'teacher = "SUAN-1"\nteacher_init = "{run}"')
    assert teachers_of(cells, before) == [found[1]] * 2
    with pytest.raises(UserError, match="is the folder of one run"):
        cells_of(GRID, f'teacher = "SUAN-1"\nteacher_init = "{run}"\nteacher_samples = "same"')


def test_a_warm_teacher_that_does_not_fit_is_an_error(cells_of, before, tmp_path):
    def message(distill, grid=GRID, rest=""):
        with pytest.raises(UserError) as error:
            cells_of(grid, f'teacher = "SUAN-1"\n{distill}', rest)
        return str(error.value)

    init = f'teacher_init = "{before.root}"\n'
    assert "no finished run of SUAN-1 with seed 2" in message(init, GRID.replace("= 2", "= 3"))
    assert "on 200 impressions and the study's options (there: D=160, D=320)" in message(
        init + "teacher_samples = 200"
    )
    assert "with seed 0" in message(init, rest='[model]\nnorm = "layer"')
    run = next(before.root.glob("*/record.json")).parent
    shutil.copytree(run, tmp_path / "open" / run.name)
    (tmp_path / "open" / run.name / "record.json").unlink()
    assert "that run is not finished" in message(f'teacher_init = "open/{run.name}"')
    shutil.copytree(run, tmp_path / "bare" / run.name)
    (tmp_path / "bare" / run.name / "model.safetensors").unlink()
    assert "has no saved model" in message(f'teacher_init = "bare/{run.name}"')
    taught = cells_of('grade = ["SUAN-1"]\nn_samples = [160]', 'teacher = "SUAN-2"')[0]
    apprentice = replace(before.read(run.name), config=taught)
    before_taught = RunStore(tmp_path / "taught")
    before_taught.write(apprentice)
    named = before_taught.folder(taught.signature)
    assert "the impressions that its own teacher saw" in message(f'teacher_init = "{named}"')
    other = 'teacher = "SUAN-2"'
    with pytest.raises(UserError, match="whose sizes or options differ from those of SUAN-2 here"):
        cells_of(GRID, f'{other}\nteacher_init = "{run}"')
    shared = init + "share_embeddings = true\nfreeze_teacher = true"
    assert "a frozen teacher cannot share" in message(
        shared, GRID.replace("LightSUAN-0", "LightSUAN-1")
    )


def test_a_teacher_of_other_data_is_refused(cells_of, before, tiny_store, tmp_path):
    study = write_study(
        tmp_path / "s.toml", tiny_store, GRID, f'teacher = "SUAN-1"\nteacher_init = "{before.root}"'
    )
    facts = replace(data_facts(study.data), fingerprint="0" * 64)
    with pytest.raises(UserError, match=r"trained on other data .* whose ids mean other things"):
        grid_cells(study, facts)


@pytest.mark.parametrize("order", ["shared", "independent"])
def test_a_teacher_that_saw_other_impressions_of_the_same_number_is_a_warning(
    cells_of, before, capsys, order
):
    """The runs in `before` have a shared order."""
    init = f'teacher = "SUAN-1"\nteacher_init = "{before.root}"\nteacher_samples = "same"'
    cells_of(GRID, init)
    with pytest.raises(SystemExit):
        main(["plan", "study.toml", "--set", f"train.data_order={order}"])
    warned = "as their students, but not the same ones" in capsys.readouterr().err
    assert warned == (order == "independent")


def test_a_plan_says_that_a_cell_has_lost_its_teacher(cells_of, tiny_store, capsys):
    (taught,) = cells_of('grade = ["SUAN-0"]\nn_samples = [160]', 'teacher = "SUAN-1"')
    train_run(taught, tiny_store, RunStore(Path("runs") / "tiny"))
    cells_of('grade = ["SUAN-0"]\nn_samples = [160]')
    with pytest.raises(SystemExit):
        main(["plan", "study.toml"])
    assert "distill.teacher_name SUAN-1 -> None" in capsys.readouterr().out


def test_a_plan_distinguishes_teachers_of_one_grade_by_their_samples(cells_of, before, capsys):
    cells_of(
        GRID + '\n"distill.teacher_samples" = [160, "largest"]',
        f'teacher = "SUAN-1"\nteacher_init = "{before.root}"',
    )
    with pytest.raises(SystemExit):
        main(["plan", "study.toml", "--json"])
    rows = json.loads(capsys.readouterr().out)["cells"]
    assert [row["distill.teacher_samples"] for row in rows] == [160, 160, 320, 320]


def test_a_job_trains_the_cells_with_the_teachers_of_the_study(
    before, tiny_store, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    distill = f'teacher = "SUAN-1"\nteacher_init = "{before.root}"\nfreeze_teacher = true'
    study = write_study(tmp_path / "s.toml", tiny_store, GRID, distill)
    assert teacher_folders(study) == (str(before.root.resolve()),)
    runs = RunStore(tmp_path / "runs" / "tiny")
    plan = survey(study, data_facts(study.data), runs)
    job = cell_job(plan, runs, plan.cells)
    failed = run_cells(
        job.data_path, job.runs_root, job.configs, teacher_folders=job.teacher_folders
    )
    assert failed == []
    record = runs.read(plan.cells[1].config.signature)
    kept = before.read(record.config.distill.teacher_init)
    assert record.teacher.metrics == kept.metrics
    again = survey(study, data_facts(study.data), runs)
    assert [cell.standing for cell in again.cells] == ["done", "done"]
    assert {cell.source for cell in again.cells} == {"run"}


def test_a_plan_counts_both_models(cells_of, tiny_store, capsys):
    cells_of("n_samples = [160]", 'teacher = "SUAN-2"\nstudent = "LightSUAN-1"')
    with pytest.raises(SystemExit):
        main(["plan", "study.toml", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["cells"]
    sizes = [
        model_size(GRADES["SUAN-1"], SuanOptions(kind="lightsuan"), tiny_store.schema),
        model_size(GRADES["SUAN-2"], SuanOptions(), tiny_store.schema),
    ]
    assert row["flops"] == 3 * 160 * sum(size.flops_per_sample for size in sizes)
    assert row["flops_per_sample"] == sizes[0].flops_per_sample


@pytest.fixture
def taught(tmp_path):
    """Students of several teachers, following a known law in the teacher's size, and students without one."""
    rows = [
        {
            "signature": f"{way}{n_params}{size}{seed}",
            "grade": "LightSUAN-1",
            "n_params": 4419,
            "n_samples": size,
            "seed": seed,
            "distill": way,
            "teacher_grade": "none" if way == "none" else f"T{n_params}",
            "teacher_n_params": float("nan") if way == "none" else n_params,
            "logloss": 0.4 + 3 * n_params**-0.4 + 2 * size**-0.3 + 1e-4 * (-1) ** seed,
        }
        for way, sizes in (("none", [1]), ("cold", [1000, 3000, 10_000, 30_000]))
        for n_params in sizes
        for size in (4096, 16384, 65536, 262144)
        for seed in (0, 1)
    ]
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_the_law_of_a_student_in_its_teachers_size_is_recovered(taught, capsys):
    with pytest.raises(SystemExit) as end:
        main(["fit", str(taught), "--x", "teacher_n_params", "--where", "distill=cold", "--json"])
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)["params"]
    assert found["E"] == pytest.approx(0.4, abs=1e-3)
    assert (found["alpha"], found["beta"]) == pytest.approx((0.4, 0.3), abs=1e-2)


def test_students_of_several_teachers_are_not_fitted_together_in_their_own_size(taught, capsys):
    for conditions in (["--where", "distill=cold"], []):
        with pytest.raises(SystemExit) as end:
            main(["fit", str(taught), *conditions])
        assert end.value.code == 2
        assert "teacher_grade=T1000" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:  # nor plain ones with distilled ones in the teacher's
        main(["fit", str(taught), "--x", "teacher_n_params"])
    assert end.value.code == 2
    assert "distill (2: cold, none)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("['SUAN-11111']", "distill.student: there is no grade SUAN-11111"),
        ("['SUAN-1', 'SUAN-1']", "distill.student: SUAN-1 is given twice"),
        ("[]", "distill: student is empty"),
    ],
)
def test_errors_of_students_that_are_the_grid_name_their_own_key(cells_of, student, message):
    with pytest.raises(UserError, match=re.escape(message)):
        cells_of("n_samples = [160]", f"teacher = 'SUAN-2'\nstudent = {student}")
