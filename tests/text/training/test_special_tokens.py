import random

import pytest

from beichen.errors import TokenizerError
from beichen.text.training.special_tokens import SpecialTokens


def test_every_id_is_used_once_and_order_is_kept():
    draw = random.Random(0)
    for _ in range(200):
        names = [f"<{number}>" for number in range(draw.randrange(8))]
        pieces, reserved, last = draw.randrange(256, 300), draw.randrange(5), draw.random() < 0.5
        size = pieces + len(names) + reserved
        chosen = dict(zip(draw.sample(names, len(names) // 2), draw.sample(range(size), len(names) // 2), strict=True))
        specials = SpecialTokens(names=names, chosen=chosen, reserved=reserved, last=last)
        ids, piece_ids = specials.place(pieces)
        assert sorted([*ids.values(), *piece_ids]) == list(range(size))
        assert piece_ids == sorted(piece_ids) and len(piece_ids) == pieces
        assert chosen.items() <= ids.items()
        others = [ids[name] for name in specials.all_names if name not in chosen]
        assert others == sorted(others)
        if not chosen and others:
            assert others == list(range(size - len(others), size) if last else range(len(others)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ("<a>", "<a>")}, "repeat"),
        ({"names": ("<a>",), "chosen": {"<b>": 1}}, "is no control token"),
        ({"names": ("<a>", "<b>"), "chosen": {"<a>": 1, "<b>": 1}}, "one id"),
        ({"names": ("",)}, "empty"),
    ],
)
def test_faults_are_named(given, words):
    with pytest.raises(TokenizerError, match=words):
        SpecialTokens(**given)


def test_an_id_beyond_the_vocabulary_is_named():
    with pytest.raises(TokenizerError, match="given id 300, the vocabulary has ids 0 to 256"):
        SpecialTokens(names=("<a>",), chosen={"<a>": 300}).place(256)
