"""The light client reads what a server streams, many answers at once."""

from __future__ import annotations

import pytest

from beichen.inference.language_model import LanguageModel
from bench.light_client import Streamed, ask
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import live_server


def test_all_answers_are_read_to_their_ends():
    model = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")
    with live_server(model, name="bench") as live:
        port = int(live.url.rpartition(":")[2])
        answers = ask(port, [[5, 6, 7 + number] for number in range(9)], tokens=20, pause=0.001)
        assert [answer.tokens for answer in answers] == [20] * 9
        assert all(0 < answer.first <= answer.seconds for answer in answers)
        (refused,) = ask(port, [[10**6]], tokens=1)
        with pytest.raises(RuntimeError, match="400"):
            _ = refused.tokens


def test_what_is_no_answer_is_told():
    with pytest.raises(RuntimeError, match="nothing of the kind"):
        _ = Streamed(received=b"nothing of the kind").tokens
