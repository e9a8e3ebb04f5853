"""Values are called by the names of JSON."""

from __future__ import annotations

import json

import pytest

from beichen.util.json_kinds import json_field, json_kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", "an object"), ("[]", "a list"), ('"a"', "a string"), ("true", "a boolean"), ("1", "a number"), ("1.5", "a number")],
)
def test_every_value_of_json_has_json_s_name(text, kind):
    assert json_kind(json.loads(text)) == json_field(json.loads(text)) == kind


def test_null_is_a_value_of_its_own_and_as_a_field_missing():
    assert (json_kind(None), json_field(None)) == ("null", "missing")
    assert json_kind({1}) == "a set"  # of a caller in Python
