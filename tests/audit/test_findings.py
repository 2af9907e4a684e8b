"""Each leak and flaw is added to a clean log; the audit must find it, and nothing else."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from store_edits import edit_array, set_row

from scaling.audit import audit_store
from scaling.audit.feature_counts import IdCounts, columns, count_ids
from scaling.cli.app import main
from scaling.errors import UserError
from scaling.metrics import auc_with_stderr
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store

START, DAY = 1_700_000_000, 86_400
N, N_ITEMS, N_USERS = 20_000, 60, 200


def make_log(seed=0):
    """A log in which clicks depend on the item and not on the history."""
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0.1, 0.6, N_ITEMS)
    item = rng.integers(0, N_ITEMS, N)
    time = START + rng.integers(0, 10 * DAY, N)
    label = rng.random(N) < quality[item]
    events = Events(
        rng.integers(0, N_USERS, N),
        START - DAY + rng.integers(0, 11 * DAY, N),
        {"item": rng.integers(2, N_ITEMS + 2, N)},
    )
    impressions = Impressions(
        user=rng.integers(0, N_USERS, N),
        time=time,
        label=label,
        in_test=time >= START + 8 * DAY,
        candidates={"item": item + 2},
        contexts={"hour": time // 3600 % 24 + 2},
        numerics={"price": rng.normal(size=N), "quality": quality[item]},
    )
    return events, impressions, {"age": rng.integers(2, 6, N_USERS)}


def write(path, events, impressions, profiles, n_ages=6):
    item = Feature("item", "item")
    return write_store(
        path,
        Schema(
            behaviour=(item,),
            candidate=(item,),
            context=(Feature("hour", "hour"),),
            profile=(Feature("age", "age"),),
            numeric=tuple(impressions.numerics),
            vocabularies={"item": N_ITEMS + 2, "hour": 26, "age": n_ages},
        ),
        events,
        impressions,
        profiles,
        n_users=N_USERS,
        split={"kind": "time", "boundary": START + 8 * DAY},
        source={"kind": "test"},
    )


@pytest.fixture
def clean(tmp_path):
    return write(tmp_path / "clean", *make_log())


def kinds(store):
    return [(finding.severity, finding.kind) for finding in audit_store(store).findings]


def test_a_clean_log_has_no_findings_even_with_the_true_click_rates_as_a_feature(clean):
    assert kinds(clean) == []


def test_an_auc_is_that_of_training_rates_in_the_test_part(clean):
    n = clean.n_train
    item, label = clean.candidates["item"].astype(int), clean.label.astype(float)
    base = label[:n].mean()
    clicks = np.bincount(item[:n], label[:n], minlength=N_ITEMS + 2)
    rate = (clicks + 10 * base) / (np.bincount(item[:n], minlength=N_ITEMS + 2) + 10)
    expected, _ = auc_with_stderr(label[n:], rate[item[n:]])
    facts = {facts.name: facts for facts in audit_store(clean).features}
    assert facts["item"].auc == pytest.approx(expected, abs=1e-12)
    assert facts["item"].n_values == N_ITEMS


def test_features_derived_from_the_history_agree_with_a_count_by_hand(clean):
    found = {column.name: column.ids(slice(0, clean.n_impressions)) for column in columns(clean)}
    for i in range(0, clean.n_impressions, 97):
        mine = slice(clean.offsets[clean.user[i]], clean.offsets[clean.user[i] + 1])
        times = clean.event_time[mine]
        n = int((times < clean.time[i]).sum())
        assert found["length"][i] == n.bit_length()
        since = 1 + int(clean.time[i] - times[n - 1]).bit_length() if n else 0
        assert found["time_since"][i] == since
        same = n and clean.behaviours["item"][mine][n - 1] == clean.candidates["item"][i]
        assert found["last_item_is_item"][i] == (1 + since if same else 0)


def test_counts_do_not_depend_on_the_chunks(clean, monkeypatch):
    column = next(columns(clean))
    whole, audit = count_ids(clean, column), audit_store(clean)
    for module in ("store.event_store", "audit.duplicates"):
        monkeypatch.setattr(f"scaling.{module}.CHUNK", 777)
    cut = count_ids(clean, column)
    assert np.array_equal(whole.train, cut.train)
    assert np.array_equal(whole.test, cut.test)
    assert audit_store(clean) == audit


def test_an_event_at_the_impressions_second_in_its_history_is_an_error(clean):
    inside = np.flatnonzero(clean.history_end < clean.offsets[clean.user + 1])

    def lengthen(end):
        end[inside[:3]] += 1
        return end

    edit_array(clean.path, "impressions/history_end", lengthen)
    findings = audit_store(open_store(clean.path)).findings
    assert [finding.kind for finding in findings] == ["future_event"]
    assert f"3 impressions (first: row {inside[0]:,})" in findings[0].message


def with_numeric(log, name, values):
    events, impressions, profiles = log
    return events, replace(impressions, numerics={**impressions.numerics, name: values}), profiles


def test_a_copy_of_the_label_is_an_error_whatever_its_sign(tmp_path):
    log = make_log()
    noise = np.random.default_rng(1).normal(size=N)
    leak = with_numeric(log, "play_time", 0.2 * noise - log[1].label)
    assert kinds(write(tmp_path / "s", *leak)) == [("error", "label")]


def test_a_strong_feature_is_a_warning(tmp_path):
    log = make_log()
    noise = np.random.default_rng(1).normal(size=N)
    strong = with_numeric(log, "score", 0.6 * noise + log[1].label)
    assert kinds(write(tmp_path / "s", *strong)) == [("warning", "auc")]


def test_a_click_that_is_logged_as_an_event_just_before_itself_is_found(tmp_path):
    events, impressions, profiles = make_log()
    clicked = np.flatnonzero(impressions.label)
    seen = Events(
        np.append(events.user, impressions.user[clicked]),
        np.append(events.time, impressions.time[clicked] - 1),
        {"item": np.append(events.features["item"], impressions.candidates["item"][clicked])},
    )
    store = write(tmp_path / "s", seen, impressions, profiles)
    named = [finding.message for finding in audit_store(store).findings if finding.kind == "label"]
    assert any("last_item_is_item" in message for message in named)


@pytest.mark.parametrize("transform", [lambda rate: rate, lambda rate: -np.log(rate + 0.05)])
def test_a_statistic_over_the_whole_log_is_an_error_and_one_of_the_training_part_is_not(
    tmp_path, transform
):
    events, impressions, profiles = make_log()
    item, label, train = impressions.candidates["item"], impressions.label, ~impressions.in_test

    def rate(rows):
        rates = np.bincount(item[rows], label[rows]) / np.maximum(1, np.bincount(item[rows]))
        return transform(rates)[item]

    log = events, impressions, profiles
    future = write(tmp_path / "future", *with_numeric(log, "ctr", rate(slice(None))))
    assert kinds(future) == [("error", "future_statistic")]
    past = write(tmp_path / "past", *with_numeric(log, "ctr", rate(train)))
    assert kinds(past) == []


def test_a_users_click_rate_over_the_whole_log_in_the_profile_is_an_error(tmp_path):
    events, impressions, _ = make_log()
    label, user, train = impressions.label, impressions.user, ~impressions.in_test

    def bucket(rows):
        rate = np.bincount(user[rows], label[rows], N_USERS) / np.bincount(
            user[rows], minlength=N_USERS
        )
        return 2 + np.searchsorted(np.quantile(rate, np.linspace(0, 1, 17)[1:-1]), rate)

    log = events, impressions
    future = write(tmp_path / "future", *log, {"age": bucket(slice(None))}, n_ages=18)
    assert kinds(future) == [("error", "future_statistic")]
    past = write(tmp_path / "past", *log, {"age": bucket(train)}, n_ages=18)
    assert kinds(past) == []


def test_repeated_impressions_and_events_are_counted(tmp_path):
    events, impressions, profiles = make_log()

    def again(values, rows=100):
        return np.concatenate([values, values[:rows]])

    log = (
        Events(again(events.user), again(events.time), {"item": again(events.features["item"])}),
        Impressions(
            user=again(impressions.user),
            time=again(impressions.time),
            # 60 of the 100 repeats have the opposite label.
            label=np.append(impressions.label, impressions.label[:100] ^ (np.arange(100) < 60)),
            in_test=again(impressions.in_test),
            candidates={"item": again(impressions.candidates["item"])},
            contexts={"hour": again(impressions.contexts["hour"])},
            numerics={name: again(v) for name, v in impressions.numerics.items()},
        ),
        profiles,
    )
    audit = audit_store(write(tmp_path / "s", *log))
    found = audit.duplicates
    assert (found.impressions, found.contradictions, found.events) == (40, 60, 100)
    assert {finding.kind for finding in audit.findings} == {"duplicates"}


def test_rows_of_unknown_items_are_no_repeats(tmp_path):
    events, impressions, profiles = make_log()
    first = slice(0, 100)
    unknown = {
        name: v.copy()
        for name, v in (("i", impressions.candidates["item"]), ("e", events.features["item"]))
    }
    for values in unknown.values():
        values[first] = 1
    # 100 candidates of one user in one second, of which nobody knows what they are
    user, time = impressions.user.copy(), impressions.time.copy()
    user[first], time[first] = 3, START + 5
    numerics = {
        name: np.where(np.arange(N) < 100, 0.5, v) for name, v in impressions.numerics.items()
    }
    hour = np.where(np.arange(N) < 100, 2, impressions.contexts["hour"])
    log = (
        replace(
            events,
            features={"item": unknown["e"]},
            user=np.where(np.arange(N) < 100, 3, events.user),
            time=np.where(np.arange(N) < 100, START, events.time),
        ),
        replace(
            impressions,
            user=user,
            time=time,
            in_test=time >= START + 8 * DAY,
            candidates={"item": unknown["i"]},
            contexts={"hour": hour},
            numerics=numerics,
        ),
        profiles,
    )
    found = audit_store(write(tmp_path / "s", *log)).duplicates
    assert (found.impressions, found.contradictions, found.events) == (0, 0, 0)


def test_unknown_untrained_and_constant_features_are_warnings(tmp_path):
    events, impressions, _ = make_log()
    item = impressions.candidates["item"].copy()
    test = np.flatnonzero(impressions.in_test)
    item[test[: len(test) * 6 // 10]] = 1
    item[test[-50:]] = 7
    item[~impressions.in_test & (item == 7)] = 8
    seen = events.features["item"].copy()
    seen[seen == 7] = 8
    store = write(
        tmp_path / "s",
        replace(events, features={"item": seen}),
        replace(impressions, candidates={"item": item}),
        {"age": np.full(N_USERS, 2)},
    )
    assert sorted(kind for _, kind in kinds(store)) == ["constant", "unknown", "untrained"]
    facts = next(facts for facts in audit_store(store).features if facts.name == "item")
    assert facts.unknown_test == pytest.approx(0.6, abs=0.01)


def test_shares_of_impressions_without_history_and_of_new_users(tmp_path):
    events, impressions, profiles = make_log()
    user = np.where(impressions.in_test & (impressions.user < 100), 0, impressions.user)
    user[~impressions.in_test & (user == 0)] = 1
    of_others = events.user != 0
    few = Events(
        events.user[of_others], events.time[of_others], {"item": events.features["item"][of_others]}
    )
    audit = audit_store(write(tmp_path / "s", few, replace(impressions, user=user), profiles))
    expected = (user[impressions.in_test] == 0).mean()
    assert audit.new_users_test == pytest.approx(expected)
    assert audit.without_history["test"] == pytest.approx(expected)


def test_a_store_out_of_range_is_refused_with_the_command_that_lists_every_broken_rule(clean):
    edit_array(clean.path, "impressions/user", set_row(5, N_USERS))
    with pytest.raises(UserError, match=r"row 5 is not a user number.*run `scaling data validate"):
        audit_store(open_store(clean.path))


def test_the_exit_code_is_1_for_an_error_and_0_for_warnings(tmp_path, capsys, clean):
    log = make_log()
    write(tmp_path / "leak", *with_numeric(log, "copy", log[1].label.astype(float)))
    for path, code in ((clean.path, 0), (tmp_path / "leak", 1)):
        with pytest.raises(SystemExit) as exited:
            main(["data", "check", str(path)])
        assert exited.value.code == code
    printed = capsys.readouterr().out
    assert "nothing suspicious" in printed
    assert "error: numeric copy alone has an AUC of 1.0000" in printed
    shutil.rmtree(tmp_path / "leak")


def test_an_id_that_training_lacks_has_the_base_rate_of_training():
    train, test = np.array([[40, 50, 0], [0, 10, 0]]), np.array([[0, 0, 5], [30, 30, 5]])
    # ten rows of the base rate 10 / 100 are added to each id
    expected = [1 / 50, 11 / 70, 0.1]
    assert IdCounts(train, test).score.tolist() == pytest.approx(expected)
