"""Rows for new tokens: every other tensor bit for bit, old ids with unchanged logits, new rows the mean of the pieces."""

import json

import pytest
import torch
from safetensors.torch import load_file

import beichen
from beichen.checkpoints.digests import verify_digests
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.resizing import resize_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import SettingsError, StorageError
from beichen.models.registry import FAMILIES, load_family
from beichen.text.extension import extend_tokenizer
from tests.checkpoints.folders import random_decoder
from tests.text.trained import small_tokenizer

ROWS = 408  # of the embedding before: the tokenizer has 400 ids


def write(folder, family, **keys):
    decoder = random_decoder(family, vocab_size=ROWS, num_key_value_heads=6, **keys)
    save_checkpoint(folder, decoder, family=family, write_extra=[small_tokenizer().save])


def logits(folder, ids):
    decoder = load_checkpoint(folder).decoder
    with torch.no_grad():
        return decoder(ids) @ decoder.head_weight.T


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_old_ids_have_the_same_logits_in_every_family(tmp_path, family, tied):
    write(tmp_path / "old", family, tie_word_embeddings=tied)
    words = ["春天", "hello world", "学生", "苹果树"]
    extension = extend_tokenizer(small_tokenizer(), control=[f"<new{number}>" for number in range(12)], words=words)
    assert resize_checkpoint(tmp_path / "old", tmp_path / "new", extension, old_ids=400, multiple=16) == 416
    ids = torch.randint(400, (3, 20), generator=torch.Generator().manual_seed(1))
    before, after = logits(tmp_path / "old", ids), logits(tmp_path / "new", ids)
    assert after.shape[-1] == 416
    torch.testing.assert_close(after[..., :400], before[..., :400], rtol=0, atol=0)
    old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    names = load_family(family).names
    for name, tensor in old.items():
        if name not in (names.embedding, names.head):
            assert torch.equal(tensor, new[name])
        else:
            assert torch.equal(tensor[:400], new[name][:400])
            for token, parts in extension.spelled.items():
                torch.testing.assert_close(new[name][token], tensor[list(parts)].mean(0))
    assert old.keys() == new.keys() and verify_digests(tmp_path / "new") == []
    assert json.loads((tmp_path / "new" / "config.json").read_text())["vocab_size"] == 416


def test_rows_for_nobody_are_never_the_likeliest(tmp_path):
    write(tmp_path / "old", "telechat2")
    extension = extend_tokenizer(small_tokenizer(), words=["春天"])
    assert resize_checkpoint(tmp_path / "old", tmp_path / "new", extension, old_ids=400) == ROWS
    extension = extend_tokenizer(extension.tokenizer, control=[f"<new{number}>" for number in range(9)])
    assert resize_checkpoint(tmp_path / "new", tmp_path / "newer", extension, old_ids=401, multiple=16) == 416
    found = logits(tmp_path / "newer", torch.randint(400, (4, 16), generator=torch.Generator().manual_seed(2)))
    assert (found[..., 410:].amax(-1) <= found[..., :401].amax(-1)).all()


def test_the_result_is_a_model_that_loads_whole(tmp_path):
    write(tmp_path / "old", "telechat2")
    extension = extend_tokenizer(small_tokenizer(), control=["<think>"], words=["春天"])
    resize_checkpoint(tmp_path / "old", tmp_path / "new", extension, old_ids=400)
    model = beichen.load(tmp_path / "new", device="cpu")
    assert model.tokenizer.encode("春天") == [401] and model.tokenizer.special_ids["<think>"] == 400


def test_a_multiple_that_wastes_rows_and_a_folder_that_is_not_empty_are_refused(tmp_path):
    write(tmp_path / "old", "telechat2")
    extension = extend_tokenizer(small_tokenizer(), control=[f"<new{number}>" for number in range(12)])
    with pytest.raises(SettingsError, match="would never be used"):
        resize_checkpoint(tmp_path / "old", tmp_path / "new", extension, old_ids=400, multiple=1000)
    with pytest.raises(StorageError, match="not an empty folder"):
        resize_checkpoint(tmp_path / "old", tmp_path / "old", extension, old_ids=400)
