"""Classes from elsewhere that do not keep the protocol are refused by one line that names them."""

import random

import numpy as np
import pytest
import torch
from encoder_inputs import SmallSchema
from own_classes import HEAD, PACKED, SUM
from small_runs import small_config

from models.grades import Grade
from models.kinds import ModelError, check_model, options_of, options_type, read_options, size_of
from scaling.study import load_study
from scaling.training import train_model

SCHEMA = SmallSchema(
    vocabularies={"item": 40, "category": 9, "action": 4, "position": 6, "age": 7, "city": 8}
)
GRADE = Grade(1, 1, 4, 12)


def checked(kind):
    options = options_of(kind, options_type(kind)())
    check_model(GRADE, options, SCHEMA)
    return options


def test_a_class_that_keeps_the_protocol_is_taken(write):
    options = checked(write(HEAD + SUM + PACKED))
    assert options.values == {"rate": 0.5}
    assert len(options.source) == 16


BAD = {
    r"cannot be imported: ModuleNotFoundError: No module named 'no_such_module_anywhere'$": (
        "import no_such_module_anywhere\n"
    ),
    r"cannot be imported: SyntaxError: invalid syntax \(own_module_\w+.py, line 1\)$": "class Own(:\n",
    "the module has no such class; did you mean Owl": "class Owl:\n    pass\n",
    "expected a subclass of models.encoder.Encoder": "class Own:\n    pass\n",
    "has no method forward": HEAD,
    "options_type is None; expected a frozen dataclass": (
        HEAD.replace("options_type = Options", "options_type = None") + SUM
    ),
    r"has no n_out": HEAD.replace("self.n_out = ", "n_out = ").replace("self.n_out", "n_out") + SUM,
    r"forward returned \(3, 1, 7\); expected \[B, M, n_out\] = \(3, 1, 12\)": HEAD
    + SUM.replace("return self.read(inputs)", "return self.read(inputs)[..., :7]"),
    "forward returned values that are not finite": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs) / inputs.lengths[:, None, None] * 0"),
    "two passes in evaluation differ": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs) + torch.rand(1)"),
    "padding or the other passes of a batch change it": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs) + inputs.n_history"),
    "no parameter gets a gradient": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs).detach()"),
    "it declares packing request, but candidates change each other": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs).cumsum(1)")
    + PACKED,
    "it declares packing stretch, but a candidate reads more": HEAD
    + SUM.replace("inputs.seen", "inputs.valid[:, None, :]")
    + PACKED,
    r"packing returned 'request'; expected a tuple": HEAD
    + SUM
    + PACKED.replace('("request", "stretch")', '"request"'),
    "padding or the other passes of a batch change": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs) * self.read(inputs).mean(0, True)"),
    "cannot be imported: SystemExit": "raise SystemExit(3)\n",
    "an option cannot have the name kind": HEAD.replace("rate: float = 0.5", "kind: str = 'x'")
    + SUM,
    "packing is no class method": HEAD + SUM + PACKED.replace("    @classmethod\n", ""),
    "a gradient is not finite": HEAD
    + SUM.replace(
        "self.read(inputs)",
        "self.read(inputs) + (self.layer.weight.square().sum() * inputs.lengths[:, None, None]).sqrt()",
    ),
    "no clock, and no state but in buffers": HEAD
    + SUM.replace(
        "return self.read(inputs)",
        "self.n = getattr(self, 'n', 0) + self.training; return self.read(inputs) * (1 + self.n)",
    ),
    r"draws from a global random generator, as nn.Dropout does.*; expected self.apply_dropout\(x, rate\)": HEAD
    + SUM.replace(
        "self.read(inputs)", "nn.functional.dropout(self.read(inputs), 0.5, self.training)"
    ),
    "in training it draws from a global random generator": "import random\n"
    + HEAD
    + SUM.replace(
        "self.read(inputs)", "self.read(inputs) * (random.random() if self.training else 1)"
    ),
    "fails in training on a batch of one impression: ZeroDivisionError": HEAD
    + SUM.replace(
        "self.read(inputs)", "self.read(inputs) * (2 // (len(inputs.lengths) - 1))"
    ).replace(
        "return self.read",
        "if not self.training: return self.read(inputs)\n        return self.read",
    ),
    "fails: RuntimeError": HEAD
    + SUM.replace("self.read(inputs)", "self.read(inputs) @ torch.ones(3, 3)"),
}


@pytest.mark.parametrize("message", BAD)
def test_a_class_that_breaks_the_protocol_is_refused(write, message):
    kind = write(BAD[message])
    with pytest.raises(ModelError, match=message) as error:
        checked(kind)
    assert str(error.value).startswith(kind)
    assert "\n" not in str(error.value)


def test_an_option_that_json_does_not_have_is_refused(write):
    kind = write(HEAD.replace("rate: float = 0.5", "rate: object = object()") + SUM)
    with pytest.raises(ModelError, match=r"option rate is .*; expected a number"):
        checked(kind)


def test_a_module_that_is_not_there_is_one_line():
    with pytest.raises(ModelError) as error:
        options_type("no_such_module:Own")
    assert str(error.value) == (
        "no_such_module:Own: there is no module no_such_module; expected one in the working directory, or an installed package"
    )


@pytest.mark.parametrize("file", ["models.py", "json.py"])
def test_a_file_that_is_hidden_by_another_module_is_to_be_renamed(write, tmp_path, file):
    (tmp_path / file).write_text(HEAD + SUM)
    name = file.removesuffix(".py")
    with pytest.raises(ModelError) as error:
        options_type(f"{name}:Own")
    assert str(error.value) == (
        f"{name}:Own: the module has no such class; {file} in the working directory is hidden by another module {name}: rename it"
    )


def test_what_a_class_prints_goes_to_stderr(write, capsys):
    code = HEAD.replace("        self.n_out", "        print('built')\n        self.n_out", 1)
    own = SUM.replace("return self.read", "print('run')\n        return self.read")
    kind = write("print('imported')\n" + code + own)
    size_of(GRADE, checked(kind), SCHEMA)
    out, err = capsys.readouterr()
    assert out == ""
    assert set(err.split()) == {"imported", "built", "run"}


TRAINED = {
    "batch normalisation": SUM.replace(
        "self.read(inputs)",
        "self.norm(self.read(inputs).flatten(0, 1)).view(*inputs.seen.shape[:2], -1)",
    ),
    "dropout": SUM.replace("self.read(inputs)", "self.apply_dropout(self.read(inputs), 0.3)"),
    "state in a buffer": SUM.replace(
        "return self.read(inputs)",
        "self.seen += self.training\n        return self.read(inputs) * self.seen",
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_class_that_a_checkpoint_can_hold_is_trained_with_a_last_batch_of_one(
    write, tiny_store, name
):
    layers = "        self.norm = nn.BatchNorm1d(self.n_out)\n        self.register_buffer('seen', torch.zeros(()))\n"
    options = checked(write(HEAD + layers + TRAINED[name]))
    assert size_of(GRADE, options, SCHEMA).flops_per_sample > 0
    config = small_config(tiny_store, model=options, n_samples=33, batch_size=32)
    assert np.isfinite(train_model(config, tiny_store)[1])


def test_the_random_numbers_of_the_caller_stay(write):
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    before = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    checked(write(HEAD + SUM))
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == before  # noqa: NPY002


@pytest.mark.parametrize("annotation", ["tuple[int, ...]", "list[int]"])
def test_a_list_in_a_study_reaches_the_class_as_a_tuple(write, study_file, annotation):
    given = HEAD.replace("rate: float = 0.5", f"hidden: {annotation} = (4, 2)")
    kind = write(given + SUM)
    study_file.write_text(
        study_file.read_text() + f'[model]\nkind = "{kind}"\nhidden = [8, 4, 2]\n'
    )
    options = load_study(study_file).options("SUAN-0")
    assert options.values == {"hidden": [8, 4, 2]}
    assert read_options(options).hidden == (8, 4, 2)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_option_that_is_not_finite_is_named(write, value):
    kind = write(HEAD.replace("rate: float = 0.5", f"rate: float = float('{value}')") + SUM)
    with pytest.raises(ModelError, match=f"option rate is {value}; expected a finite") as error:
        checked(kind)
    assert error.value.key == "model.rate"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own:", "'own:': expected MODULE:CLASS"),
        (":Own", "':Own': expected MODULE:CLASS"),
        ("./own:Own", "'./own:Own': expected MODULE:CLASS"),
        ("own.py:Own", "'own.py:Own': expected MODULE:CLASS without .py, as in own:Own"),
    ],
)
def test_a_place_of_another_form_is_refused(place, message):
    with pytest.raises(ModelError) as error:
        options_type(place)
    assert str(error.value) == message


def test_an_empty_kind_is_shown_as_such():
    with pytest.raises(ModelError, match=r"^there is no kind ''; expected .*, or MODULE:CLASS$"):
        options_type("")
