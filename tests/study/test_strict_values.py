"""Documents are read strictly, nested dataclasses included, unless a class is marked tolerant."""

from dataclasses import dataclass

import pytest

from scaling.errors import UserError
from scaling.strict_values import fits, from_document, tolerant


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class Outer:
    inner: Inner
    names: tuple[str, ...] = ()


@tolerant
@dataclass(frozen=True)
class OfAnotherVersion:
    inner: Inner


def test_lists_become_tuples():
    document = {"inner": {"count": 1}, "names": ["a", "b"]}
    assert from_document(Outer, document, "test") == Outer(Inner(1), ("a", "b"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"inner": {"count": 1, "cuont": 2}}, "inner.cuont: unknown key, did you mean count?"),
        ({"inner": {"count": "1"}}, "inner.count: input should be a valid integer, got '1'"),
        ({"inner": {"count": 1}, "name": []}, "name: unknown key, did you mean names?"),
        ({"inner": {}}, "inner.count: missing"),
        ({"inner": {"count": 1}, "names": [2]}, "names.0: input should be a valid string, got 2"),
    ],
)
def test_a_class_without_a_mark_is_strict_at_every_depth(document, message):
    with pytest.raises(UserError) as error:
        from_document(Outer, document, "study.toml")
    assert str(error.value) == f"study.toml: {message}"


def test_a_document_of_the_wrong_shape_has_no_key_to_name():
    with pytest.raises(UserError, match=r"^study\.toml: input should be .*, got \[\]$"):
        from_document(Outer, [], "study.toml")


def test_a_tolerant_class_skips_unknown_keys_but_no_wrong_types():
    assert fits(OfAnotherVersion, '{"inner": {"count": 1, "new": 2}, "newer": 3}')
    assert not fits(OfAnotherVersion, '{"inner": {"count": "1"}}')


@pytest.mark.parametrize("text", ["", "{", "null", '{"inner": {"count": 1}}, 2'])
def test_text_that_is_not_one_document_does_not_fit(text):
    assert not fits(OfAnotherVersion, text)
