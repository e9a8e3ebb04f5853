"""The least cache that is named holds what it says, and a byte less is refused."""

from __future__ import annotations

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.cache_budget import LEAST_TOKENS, check_bytes, least_bytes
from beichen.inference.engine import Engine
from tests.inference.small_models import small_decoder


@pytest.mark.parametrize(
    ("trained", "wanted", "tokens"), [(1024, None, LEAST_TOKENS), (1024, 100, 100), (70, None, 70), (70, 500, LEAST_TOKENS)]
)
def test_the_least_cache_holds_what_is_wanted(trained, wanted, tokens):
    decoder = small_decoder(trained_length=trained)
    least = least_bytes(decoder.config, torch.float32, most_tokens=wanted)
    check_bytes(least, decoder.config, torch.float32, most_tokens=wanted)
    blocks = Engine(decoder, kv_bytes=least).blocks
    assert (blocks.count - 1) * blocks.size < tokens <= blocks.count * blocks.size
    with pytest.raises(SettingsError, match=f"{least} bytes"):
        check_bytes(least - 1, decoder.config, torch.float32, most_tokens=wanted)


def test_a_cache_of_more_than_there_is_is_refused():
    config = small_decoder().config
    check_bytes(1 << 30, config, torch.float32, memory=1 << 30)
    with pytest.raises(SettingsError, match="does not fit into"):
        check_bytes((1 << 30) + 1, config, torch.float32, memory=10**9)
