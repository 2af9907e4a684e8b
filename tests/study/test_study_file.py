import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from models.sparse_pattern import SparsePattern
from scaling.errors import UserError
from scaling.strict_values import from_document
from scaling.study import Distillation, RunConfig, load_study

CONFIG = RunConfig(
    grade_name="SUAN-1",
    grade=Grade(1, 1, 3, 16),
    model=SuanOptions(),
    n_samples=4096,
    seed=0,
    batch_size=16,
    learning_rate=0.004,
    schedule="decay",
    data_order="independent",
    data_fingerprint="f" * 64,
    warmup_steps=25,
)
STUDY = """\
[study]
name = "tiny"
[data]
path = "log"
[grid]
grade = ["SUAN-0", "own"]
n_samples = [100, "all"]
n_seeds = [2, 1]
"model.norm" = ["rms", "layer"]
[grades.own]
n_layers = 1
n_heads = 1
d = 2
max_len = 3
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


DISTILL = Distillation("SUAN-3", GRADES["SUAN-3"], SuanOptions(), 0.001, 1.0, 1.0)

configs = st.builds(
    RunConfig,
    grade_name=st.text(),
    grade=st.builds(
        Grade,
        n_layers=st.integers(1, 9),
        n_heads=st.just(1),
        d=st.integers(1, 64),
        max_len=st.integers(1, 1000),
    ),
    model=st.builds(SuanOptions, norm=st.sampled_from(["rms", "layer"]), dropout=st.floats(0, 0.9)),
    n_samples=st.integers(1, 10**12),
    seed=st.integers(0, 10**6),
    batch_size=st.integers(1, 10**6),
    learning_rate=st.floats(1e-9, 10),
    schedule=st.sampled_from(["decay", "constant"]),
    data_order=st.sampled_from(["independent", "shared"]),
    data_fingerprint=st.text("0123456789abcdef", min_size=4),
    warmup_steps=st.integers(1, 100),
    distill=st.none()
    | st.builds(
        Distillation,
        teacher_name=st.just("SUAN-3"),
        teacher=st.just(GRADES["SUAN-3"]),
        model=st.just(SuanOptions()),
        learning_rate=st.none() | st.floats(1e-9, 10),
        weight=st.floats(0, 10),
        temperature=st.floats(0.1, 10),
        share_embeddings=st.booleans(),
        teacher_init=st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
    ),
)


@given(config=configs)
def test_a_config_survives_json(config):
    document = json.loads(json.dumps(asdict(config)))
    assert from_document(RunConfig, document, "test") == config


@given(one=configs, two=configs)
def test_signatures_are_equal_only_for_equal_contents(one, two):
    same = replace(one, grade_name="") == replace(two, grade_name="")
    assert (one.signature == two.signature) == same


@pytest.mark.parametrize("name", [f.name for f in fields(RunConfig) if f.name != "grade_name"])
def test_every_field_but_the_label_is_in_the_signature(name):
    other = {
        "grade": Grade(1, 1, 3, 17),
        "model": SuanOptions(norm="layer"),
        "schedule": "constant",
        "data_order": "shared",
        "packing": "request",
        "precision": "bf16",
        "data_fingerprint": "0" * 64,
        "learning_rate": 0.005,
        "distill": DISTILL,
        "batch_schedule": "growing",
        "embedding_rate": 0.05,
    }.get(name, getattr(CONFIG, name))
    changed = replace(CONFIG, **{name: other + 1 if isinstance(other, int) else other})
    assert changed.signature != CONFIG.signature


def test_the_label_is_not_in_the_signature():
    assert replace(CONFIG, grade_name="other").signature == CONFIG.signature
    one, other = (replace(CONFIG, distill=replace(DISTILL, teacher_name=n)) for n in "ab")
    assert one.signature == other.signature


@pytest.mark.parametrize("name", [f.name for f in fields(Distillation) if f.name != "teacher_name"])
def test_all_of_a_teacher_but_its_name_is_in_the_signature(name):
    other = {
        "teacher": Grade(1, 1, 3, 17),
        "model": SuanOptions(norm="layer"),
        "learning_rate": None,
        "weight": 2.0,
        "temperature": 2.0,
        "share_embeddings": True,
        "teacher_init": "0" * 16,
    }[name]
    one = replace(CONFIG, distill=DISTILL)
    assert replace(CONFIG, distill=replace(DISTILL, **{name: other})).signature != one.signature


@given(one=configs, two=configs)
def test_a_trajectory_is_shared_by_runs_that_differ_in_data_size_alone(one, two):
    same = replace(one, grade_name="", n_samples=1) == replace(two, grade_name="", n_samples=1)
    assert (one.trajectory == two.trajectory) == same
    assert replace(one, n_samples=one.n_samples + 1).trajectory == one.trajectory


def test_the_signature_never_changes():
    """A change would give finished runs other signatures: raise RUN_SCHEMA_VERSION instead."""
    assert replace(CONFIG, schema_version=3).signature == "b38d463bbe0836c7"


def test_a_suan_is_the_same_run_as_before_there_were_other_kinds():
    wide = SuanOptions(window=8, dilation=4)
    assert replace(CONFIG, model=wide).signature == CONFIG.signature
    light = [
        SuanOptions(kind="lightsuan", window=k, dilation=r) for k, r in ((8, 4), (8, 5), (9, 4))
    ]
    assert len({replace(CONFIG, model=model).signature for model in light}) == 3


def test_a_lightsuan_has_a_pattern_unless_given_one():
    assert SuanOptions().pattern is None
    assert SuanOptions(kind="lightsuan").pattern == SparsePattern(16, 16)
    assert SuanOptions(kind="lightsuan", window=8).pattern == SparsePattern(8, 16)


def test_window_and_dilation_are_axes(tmp_path):
    path = tmp_path / "study.toml"
    axes = '"model.window" = [4, 8]\n"model.dilation" = [2]\n'
    text = STUDY.replace('"model.norm" = ["rms", "layer"]\n', axes)
    path.write_text(f'{text}[model]\nkind = "lightsuan"\n')
    assert load_study(path).grid.axes == {"model.window": (4, 8), "model.dilation": (2,)}


def test_the_recipes_size_is_not_an_axis(study):
    study.write_text(STUDY.replace("[grid]", '[grid]\n"train.recipe_n_samples" = [100, 200]'))
    with pytest.raises(UserError, match="is not an axis"):
        load_study(study)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            'kind = "lightsuan"\nwindow = 0',
            "model: window is 0, expected 1 to 1,000,000 events",
        ),
        (
            'kind = "lightsuan"\ndilation = -3',
            "dilation is -3, expected 1 to 1,000,000 events",
        ),
        ('kind = "lightsuan"\nwindow = 2.5', "model.window: .*2.5"),
        ('kind = "lightsaun"', "model.kind: there is no kind lightsaun .did you mean lightsuan"),
        ("window = 8", 'model.window: a SUAN reads the whole history; set kind = "lightsuan"'),
    ],
)
def test_an_invalid_pattern_is_an_error_of_one_line(study, model, message):
    study.write_text(f"{STUDY}[model]\n{model}\n")
    with pytest.raises(UserError, match=message) as error:
        load_study(study)
    assert "\n" not in str(error.value)


def test_a_study_is_read(study):
    config = load_study(study)
    assert config.grid.axes == {"model.norm": ("rms", "layer")}
    assert config.grade("own") == Grade(1, 1, 2, 3)
    assert config.grid.n_seeds == (2, 1)


def test_overrides_are_typed(study):
    config = load_study(study, ["train.learning_rate=3e-4", "grid.n_seeds=3", "model.ffn=relu"])
    assert config.train.learning_rate == 3e-4
    assert config.grid.n_seeds == 3
    assert config.options("SUAN-1").ffn == "relu"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "",
            "[train]\nlearing_rate = 1.0",
            "train.learing_rate: unknown key, did you mean learning_",
        ),
        ("", "[trian]\na = 1", "trian: unknown key, did you mean train?"),
        ("", "[model]\nnorm = 'rmx'", "model.norm: 'rmx' is not one of 'rms' or 'layer'"),
        ("", "[model]\ndropout = 2.0", "dropout is 2.0, expected 0 <= dropout < 1"),
        ("", "[train]\nbatch_size = 'a'", "train.batch_size: input should be a valid integer"),
        ("", "[slurm]\ngpus = 1.5", "slurm.gpus: input should be a valid integer"),
        ("d = 2", "dd = 2", "grades.own.dd: unknown key"),
        ("n_heads = 1", "n_heads = 3", "n_heads is 3, expected a divisor of d = 2"),
        ("SUAN-0", "SUAN-00", "there is no grade SUAN-00, did you mean SUAN-0?"),
        ('grade = ["SUAN-0", "own"]', "", "grid.grade: missing"),
        ('["SUAN-0", "own"]', '["own", "own"]', "grid.grade: own is given twice; remove one"),
        ('["SUAN-0", "own"]', "[]", "grid.grade: empty"),
        ("[100,", "[0,", "0 is not a positive number of impressions"),
        ("[2, 1]", "[2]", "1 numbers for 2 data sizes"),
        ("[2, 1]", "0", "at least one seed"),
        ("model.norm", "model.nrm", "grid.model.nrm: there is no such option, did you mean norm?"),
        ("model.norm", "data.path", "an axis is model.OPTION, train.OPTION or distill.OPTION"),
        ('"layer"', '"lay"', "norm: 'lay' is not one of"),
        ('"tiny"', '"a/b"', "study.name: 'a/b' cannot be a folder's name"),
        ("[study]", "[study", "not a TOML file"),
        ("", "[train]\nbatch_size = -4", "train: batch_size is -4, expected a positive number"),
        ("", "[train]\nbatch_size = 0", "train: batch_size is 0, expected a positive number"),
        (
            "",
            "[train]\nlearning_rate = -0.01",
            "train: learning_rate is -0.01, expected a positive",
        ),
        ("", "[train]\nlearning_rate = nan", "train.learning_rate is nan"),
        ("", "[train]\nlearning_rate = inf", "train.learning_rate is inf"),
        ("", "[slurm]\ngpus = -1", "gpus is -1"),
        ("grades.own", "grades.SUAN-0", "this name is taken by the ladder"),
    ],
)
def test_a_bad_study_says_what_where_and_what_else(study, old, new, message):
    study.write_text(STUDY.replace(old, new) if old else STUDY + new)
    with pytest.raises(UserError) as error:
        load_study(study)
    assert message in str(error.value)
    assert str(study) in str(error.value)


@pytest.mark.parametrize("override", ["grid.n_seeds", "n_seeds=3", "study.name.x=1"])
def test_a_bad_override_says_so(study, override):
    with pytest.raises(UserError, match="override"):
        load_study(study, [override])


def test_a_missing_study_says_so():
    with pytest.raises(UserError, match=r"no\.toml: cannot be read: No such file"):
        load_study(Path("no.toml"))


def test_a_shared_prefix_is_not_an_axis(study):
    with pytest.raises(
        UserError, match=r"grid\.train\.share_prefix: is not an axis; set it in \[train\]"
    ):
        load_study(study, ["grid.train={share_prefix=[true,false]}"])


def test_the_run_section_is_read_and_checked(study):
    assert load_study(study, ["run.checkpoint_seconds=5"]).run.checkpoint_seconds == 5
    with pytest.raises(UserError, match=r"run: stale_seconds is 0\.0, expected a positive number"):
        load_study(study, ["run.stale_seconds=0"])
