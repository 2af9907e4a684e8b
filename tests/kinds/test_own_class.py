"""Classes from elsewhere that do not keep the protocol are refused by one line that names them."""

import sys

import pytest
from encoder_inputs import SmallSchema

from models.grades import Grade
from models.kinds import ModelError, check_model, options_of, options_type
from models.kinds.own_class import source_digest

SCHEMA = SmallSchema(
    vocabularies={"item": 40, "category": 9, "action": 4, "position": 6, "age": 7, "city": 8}
)
GRADE = Grade(1, 1, 4, 12)
HEAD = """
from dataclasses import dataclass
import torch
from torch import nn
from models.encoder import Encoder

@dataclass(frozen=True)
class Options:
    rate: float = 0.5

class Own(Encoder):
    options_type = Options

    def __init__(self, grade, options, schema):
        super().__init__(grade, options, schema)
        self.n_out = grade.d * len(schema.behaviour)
        self.layer = nn.Linear(self.n_out, self.n_out)
"""
SUM = """
    def read(self, inputs):
        return self.layer(inputs.candidate_BMD + inputs.seen.float() @ inputs.history_BLD)

    def forward(self, inputs):
        return self.read(inputs)
"""
PACKED = """
    @classmethod
    def packing(cls, options):
        return ("request", "stretch")
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module and return the kind of its class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def module(text, cls="Own"):
        name = f"own_module_{tmp_path.name}_{len(names)}".replace("-", "_")
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:{cls}"

    yield module
    for name in names:
        sys.modules.pop(name, None)


def checked(kind):
    options = options_of(kind, options_type(kind)())
    check_model(GRADE, options, SCHEMA)
    return options


def test_a_class_that_keeps_the_protocol_is_taken(write):
    options = checked(write(HEAD + SUM + PACKED))
    assert options.values == {"rate": 0.5}
    assert len(options.source) == 16


BAD = {
    "cannot be imported: ModuleNotFoundError": "import no_such_module_anywhere\n",
    "cannot be imported: SyntaxError": "class Own(:\n",
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


@pytest.mark.parametrize(("constant", "is_same"), [("1  # a comment", True), ("2", False)])
def test_the_digest_covers_the_modules_that_the_class_imports(write, tmp_path, constant, is_same):
    place = write("CONSTANT = 1\n" + HEAD + SUM)
    part = place.partition(":")[0]
    kind = write(f"from {part} import CONSTANT\n" + HEAD + SUM)
    before = source_digest(options_type_owner(kind))
    (tmp_path / f"{part}.py").write_text(f"CONSTANT = {constant}\n" + HEAD + SUM)
    source_digest.cache_clear()
    assert (source_digest(options_type_owner(kind)) == before) is is_same


def options_type_owner(kind):
    options_type(kind)
    module, _, name = kind.partition(":")
    return getattr(sys.modules[module], name)


def test_an_option_that_json_does_not_have_is_refused(write):
    kind = write(HEAD.replace("rate: float = 0.5", "rate: object = object()") + SUM)
    with pytest.raises(ModelError, match=r"option rate is .*; expected a number"):
        checked(kind)
