"""What the readers of JSON and TOML refuse that the parsers of the standard library let through or fail on."""

import time

import pytest

from scaling.documents import parse_json, parse_toml, read_json
from scaling.study_keys import key_lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": {"b": NaN}}', "a.b is NaN, expected a finite number"),
        ('{"a": [1, -Infinity]}', "a is -Infinity"),
        ('{"a": 1e999}', "a is Infinity"),
        ('{"a": ' + "9" * 400 + "}", "a has over 308 digits"),
        ('{"a": ' + "9" * 5000 + "}", "a has over 308 digits"),
        ("[" * 100_000, "64 levels"),
        ("[" * 65 + "]" * 65, "64 levels"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('"\\ud800"', "half of a surrogate pair"),
    ],
)
def test_json_that_later_code_cannot_use_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_json_with_long_numbers_pairs_of_surrogates_and_64_levels_is_read():
    assert parse_json('{"a": [1e308, ' + "9" * 308 + ', "\\ud83d\\ude00"]}')["a"][2] == "\U0001f600"
    assert parse_json("[" * 64 + "]" * 64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = nan", "a is nan, expected a finite number"),
        ("[a]\nb = [1.0, 1e999]", "a.b is inf"),
        ("a.b = 9223372036854775808", "a.b is too large"),
        ("a = " + "9" * 5000, "thousands of digits"),
        ("a = " + "[" * 20_000 + "]" * 20_000, "64 levels"),
        ("\n" + ".".join(["a"] * 3000) + " = 1", "line 2: .* over 32 parts"),
        ("#" + "x" * 2**20, "characters"),
    ],
)
def test_toml_that_later_code_cannot_use_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_toml(text)


def test_a_key_of_very_many_parts_takes_no_time():
    """Without the check, Python's parser takes over a minute."""
    begin = time.process_time()
    with pytest.raises(ValueError, match="over 32 parts"):
        parse_toml(".".join(["a"] * 100_000) + " = 1")
    assert time.process_time() - begin < 1


def test_a_file_that_is_no_document_of_plain_size_is_not_read_whole(tmp_path):
    file = tmp_path / "huge.json"
    with file.open("wb") as stream:
        stream.truncate(2**34)
    with pytest.raises(ValueError, match="bytes"):
        read_json(file)


def test_the_lines_of_keys_with_values_of_many_lines():
    text = '# [x]\na = """\nb = 1\n"""\n[t] # [\nc = [\n  1, # ]\n  "]",\n]\n"d.e" = \'[\'\r\n[[u]]\nf = {g = 1}\n'
    assert key_lines(text) == {"a": 2, "t": 5, "t.c": 6, "t.d.e": 10, "u": 11}


def test_the_lines_of_very_many_keys_take_time_in_proportion():
    text = "".join(f"a{number} = [\n{number},\n]\n" for number in range(5000))
    begin = time.process_time()
    assert key_lines(text)["a4999"] == 3 * 4999 + 1
    assert time.process_time() - begin < 5
