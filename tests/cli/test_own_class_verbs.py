"""Verbs on a study whose model is a class from elsewhere."""

import json
import sys

import pytest
from own_classes import HEAD, SUM

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
    study = own_study(
        "print('imported')\n" + HEAD + SUM.replace("return", "print('run')\n        return")
    )
    code, out, err = run("plan", study, "--json")
    assert (code, json.loads(out)["totals"]["n_cells"]) == (0, 4)
    assert {"imported", "run"} <= set(err.split())


@pytest.mark.parametrize(("verb", "code"), [("plan", 2), ("run", 2), ("status", 0)])
def test_a_class_is_run_on_small_passes_by_verbs_that_plan_or_train(run, own_study, verb, code):
    study = own_study(HEAD + LEAKY)
    found, _, err = run(verb, study)
    assert found == code
    assert ("padding or the other passes of a batch change it" in err) is (code == 2)
