"""Verbs on a study whose model is a class from elsewhere."""

import json
import sys

import pytest
from own_classes import HEAD, SUM

PRINTING = SUM.replace("return", "print('run')\n        return")
# what another pass of the batch reads changes it
LEAKY = SUM.replace("self.read(inputs)", "self.read(inputs) + self.read(inputs).mean(0, True)")


@pytest.fixture
def own_study(study_file, monkeypatch):
    """Write a module, and return the study that trains its class."""
    monkeypatch.syspath_prepend(study_file.parent)

    def write(text):
        study_file.with_name("class_of_verbs.py").write_text(text)
        text = study_file.read_text()
        study_file.write_text(text + '[model]\nkind = "class_of_verbs:Own"\n')
        return study_file

    yield write
    sys.modules.pop("class_of_verbs", None)


def test_what_a_class_prints_does_not_mix_with_json(run, own_study):
    study = own_study("print('imported')\n" + HEAD + PRINTING)
    code, out, err = run("plan", study, "--json")
    assert (code, json.loads(out)["totals"]["n_cells"]) == (0, 4)
    assert {"imported", "run"} <= set(err.split())


@pytest.mark.parametrize(("verb", "code"), [("plan", 2), ("run", 2), ("status", 0)])
def test_a_class_is_run_on_small_passes_by_verbs_that_plan_or_train(run, own_study, verb, code):
    study = own_study(HEAD + LEAKY)
    found, _, err = run(verb, study)
    assert found == code
    assert ("padding or the other passes of a batch change it" in err) is (code == 2)


def test_what_a_class_prints_in_training_does_not_mix_with_the_record_s_path(run, own_study):
    study = own_study(HEAD + PRINTING)
    _, out, _ = run("plan", study, "--json")
    code, out, err = run("train", study, "--cell", json.loads(out)["cells"][0]["signature"])
    assert code == 0
    assert out.endswith("record.json\n")
    assert out.count("\n") == 1
    assert "run" in err.split()


@pytest.mark.slow
def test_what_a_class_prints_in_a_benchmark_does_not_mix_with_json(run, own_study):
    study = own_study(HEAD + PRINTING)
    code, out, _ = run("benchmark", study, "--grade", "SUAN-0", "--steps", "3", "--json")
    assert (code, json.loads(out)[0]["name"]) == (0, "SUAN-0")
