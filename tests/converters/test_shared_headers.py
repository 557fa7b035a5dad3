"""What headers have in common behind their first key is read once, and taken for nothing else."""

from __future__ import annotations

import pytest

from converters.containers.shared_headers import SharedHeaders

REST = b'"a":1,"b":[2]}'


class Made(list[bytes]):
    """Every rest that something was made of."""

    def __call__(self, rest: bytes) -> bytes:
        self.append(rest)
        return b"made of " + rest


def test_what_headers_share_is_made_once_and_the_first_value_is_their_own() -> None:
    made = Made()
    shared = SharedHeaders("k", made, 2)
    for value in (b"1", b'{"k": "\xc3\xa9, "}', b' [ "x" ] '):
        found = shared.split(b'{"k":' + value + b" , " + REST)
        assert found is not None
        assert found[1] == b"made of " + REST
    assert found[0] == ["x"]
    assert made == [REST]


@pytest.mark.parametrize("between", [b'"c":3,', b'"c":[', b'"a":1,"b":[2]},'])
def test_what_lies_between_the_first_key_and_a_known_rest_is_not_passed_over(
    between: bytes,
) -> None:
    made = Made()
    shared = SharedHeaders("k", made, 2)
    shared.split(b'{"k":1,' + REST)
    assert shared.split(b'{"k":1,' + between + REST) == (1, b"made of " + between + REST)


@pytest.mark.parametrize(
    "document",
    [b'{"k":1 ' + REST, b'{"k":{' + REST, b'{"k":"x,' + REST, b'{"j":1,' + REST, b"\xff" + REST],
)
def test_a_document_that_does_not_begin_with_the_key_and_its_value_is_none(document: bytes) -> None:
    shared = SharedHeaders("k", Made(), 2)
    shared.split(b'{"k":1,' + REST)
    assert shared.split(document) is None


def test_the_rests_met_last_are_kept() -> None:
    made = Made()
    shared = SharedHeaders("k", made, 2)
    for name in (b'"a":1}', b'"b":1}', b'"a":1}', b'"c":1}', b'"a":1}', b"}", b'"b":1}'):
        shared.split(b'{"k":1' + (b"" if name == b"}" else b",") + name)
    assert made == [b'"a":1}', b'"b":1}', b'"c":1}', b"}", b'"b":1}']
