"""`scaling init`: a study file that plans at once, for any data."""

import tomllib

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_RUNS", raising=False)
    return tmp_path


def test_a_store_gets_a_file_that_plans(run, here, tiny_store):
    code, out, _ = run("init", tiny_store.path, "-o", "s.toml")
    assert code == 0
    assert out.splitlines()[0] == "s.toml"
    assert [line.split()[:3] for line in out.splitlines()[2:]] == [
        ["scaling", verb, "s.toml"] for verb in ("plan", "run", "status")
    ]
    code, out, _ = run("plan", "s.toml", "--json")
    assert code == 0


def test_generated_data_get_a_file_that_plans(run, here):
    assert run("init", "generated", "-o", "s.toml")[0] == 0
    code, out, _ = run("plan", "s.toml")
    assert code == 0
    assert "data/generated will be generated first" in out


def test_the_data_of_another_study_are_taken(run, here, study_file):
    code, out, _ = run("init", study_file)
    assert code == 0
    assert tomllib.loads(out)["data"] == tomllib.loads(study_file.read_text())["data"]


def test_the_store_of_an_importer_is_found_by_its_name(run, here, tiny_store):
    (here / "data").mkdir()
    (here / "data" / "mind").symlink_to(tiny_store.path)
    code, out, err = run("init", "mind")
    assert code == 0
    assert tomllib.loads(out)["data"]["path"] == "data/mind"
    assert tomllib.loads(out)["study"]["name"] == "mind"
    assert "scaling plan study.toml" in err


def test_the_data_of_a_study_that_comes_with_the_package_are_taken(run, here):
    assert run("init", "quickstart", "-o", "s.toml")[0] == 0
    data = tomllib.loads((here / "s.toml").read_text())["data"]
    assert data["path"] == "data/quickstart-2"
    assert data["generate"]["n_train"] == 1_048_576
    assert run("plan", "s.toml")[0] == 0


def test_a_file_that_exists_is_kept(run, here, tiny_store):
    (here / "s.toml").write_text("mine")
    code, _, err = run("init", tiny_store.path, "-o", "s.toml")
    assert (code, (here / "s.toml").read_text()) == (2, "mine")
    assert err == "error: s.toml: already exists; choose another name, or remove it first\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("movielens-1", "did you mean movielens-1m?"),
        ("movielens-1m", "make it with: scaling data import movielens-1m RAW data/movielens-1m"),
        ("data/none", "make a store with `scaling data import`"),
        (".", "no dataset.json"),
        ("", "DATA is empty, expected the folder of an event store"),
        ("log.csv", "`scaling data import table FILE.toml DIR` makes a store DIR"),
        ("log.toml", "this is an import file; `scaling data import table log.toml DIR` first"),
    ],
)
def test_without_data_one_line_says_how_to_make_them(run, here, data, says):
    (here / "log.csv").write_text("user,item,click\n")
    (here / "log.toml").write_text('[impressions]\nfiles = ["log.csv"]\n')
    code, out, err = run("init", data)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_name_may_be_chosen(run, here, tiny_store):
    _, out, _ = run("init", tiny_store.path, "--name", "mine")
    assert tomllib.loads(out)["study"]["name"] == "mine"


def test_a_name_that_no_folder_can_have_is_refused(run, here, tiny_store):
    code, _, err = run("init", tiny_store.path, "--name", "a/b", "-o", "s.toml")
    assert code == 2
    assert "cannot be a folder's name" in err
    assert not (here / "s.toml").exists()
