"""The table of kinds of training: settings offer all of them, and what a kind names exists."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from beichen.train.kinds import KINDS
from beichen.train.settings import DataSettings
from beichen.util.late import resolve


def test_settings_offer_every_kind():
    assert get_args(get_type_hints(DataSettings)["kind"]) == tuple(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_what_a_kind_names_exists(kind):
    assert callable(resolve(kind.read)) and callable(resolve(kind.begin))
