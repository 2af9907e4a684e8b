"""The digest of the sources of a class from elsewhere: what counts, and what does not."""

import ast
import sys
from dataclasses import replace

import pytest
from own_classes import HEAD, SUM

from models.kinds import former_options, options_of, options_type, read_options, syntax_text
from models.kinds.class_sources import former_digest, source_digest
from scaling.records import RunStore
from scaling.study import data_facts, load_study
from scaling.training import train_run
from sweeps.planning import make_plan


def class_of(kind):
    options_type(kind)
    module, _, name = kind.partition(":")
    return getattr(sys.modules[module], name)


SAME = {
    "a comment": "1  # a comment",
    "a line break": "(\n    1\n)",
    "a docstring": '1\n"""One, as the paper has it."""',
}


@pytest.mark.parametrize(
    ("constant", "is_same"), [*((v, True) for v in SAME.values()), ("2", False)]
)
def test_the_digest_covers_the_modules_that_the_class_imports(write, tmp_path, constant, is_same):
    place = write("CONSTANT = 1\n" + HEAD + SUM)
    part = place.partition(":")[0]
    kind = write(f"from {part} import CONSTANT\n" + HEAD + SUM)
    before = source_digest(class_of(kind))
    (tmp_path / f"{part}.py").write_text(f"CONSTANT = {constant}\n" + HEAD + SUM)
    source_digest.cache_clear()
    assert (source_digest(class_of(kind)) == before) is is_same


def test_a_field_of_the_syntax_that_a_newer_python_has_does_not_count():
    """Python 3.12 gives functions and classes a list of type parameters."""
    tree = ast.parse("def f(x):\n    return x\n")
    before = syntax_text(tree)
    function = tree.body[0]
    function._fields = (*function._fields, "newer")
    function.newer = []
    assert syntax_text(tree) == before


def test_the_syntax_is_the_same_text_in_every_python():
    tree = ast.parse(
        'def f(x: int, *, y=None) -> str:\n    """Text."""\n    return f"{x:>3} {y!r}"\n'
    )
    assert syntax_text(tree) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x',annotation=Name(id='int',ctx=Load()))],"
        "kwonlyargs=[arg(arg='y')],kw_defaults=[Constant()]),body=[Return(value=JoinedStr(values=[FormattedValue(value="
        "Name(id='x',ctx=Load()),conversion=-1,format_spec=JoinedStr(values=[Constant(value='>3')])),Constant(value=' '),"
        "FormattedValue(value=Name(id='y',ctx=Load()),conversion=114)]))],returns=Name(id='str',ctx=Load()))])"
    )


@pytest.fixture
def own_study(write, study_file):
    """A study of one cell with a class from elsewhere, and the options of the class."""
    kind = write(HEAD + SUM)
    text = study_file.read_text().replace('["SUAN-0", "SUAN-1"]', '["SUAN-0"]')
    study_file.write_text(text.replace("[160, 320]", "[160]") + f'[model]\nkind = "{kind}"\n')
    return load_study(study_file), options_of(kind, options_type(kind)())


@pytest.mark.slow
def test_a_run_whose_digest_counts_docstrings_is_still_done(own_study, tiny_store, tmp_path):
    study, options = own_study
    runs, facts = RunStore(tmp_path / "runs" / "tiny"), data_facts(study.data)
    (cell,) = make_plan(study, facts, runs).cells
    former = replace(cell.config, model=former_options(options))
    assert former.signature != cell.config.signature
    train_run(former, tiny_store, runs)
    (after,) = make_plan(study, facts, runs).cells
    assert (after.config, after.state.state) == (former, "done")


@pytest.mark.slow
def test_the_present_digest_counts_if_runs_have_both(own_study, tiny_store, tmp_path):
    study, options = own_study
    runs, facts = RunStore(tmp_path / "runs" / "tiny"), data_facts(study.data)
    (cell,) = make_plan(study, facts, runs).cells
    train_run(replace(cell.config, model=former_options(options)), tiny_store, runs)
    train_run(cell.config, tiny_store, runs)
    assert make_plan(study, facts, runs).cells[0].config == cell.config


def test_options_with_either_digest_can_be_read(write):
    kind = write(HEAD + SUM)
    options = options_of(kind, options_type(kind)())
    former = former_options(options)
    assert former.source == former_digest(class_of(kind)) != options.source
    assert read_options(former) == read_options(options)
