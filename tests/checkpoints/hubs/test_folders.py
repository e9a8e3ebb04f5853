"""Names become folders: both hubs' own libraries fetch from a hub on localhost, into caches that are this test's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from beichen.checkpoints.hubs import find_folder, shown_name
from beichen.checkpoints.hubs.client import HubFile, HubName, UnreachableError
from beichen.checkpoints.hubs.folders import hub_name, needed
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import CheckpointError, MissingExtraError
from beichen.util.progress import SilentReporter
from tests.checkpoints.folders import random_decoder
from tests.checkpoints.hubs.hub_fixture import hub as hub
from tests.checkpoints.hubs.hub_fixture import point_at

NAME = "tele-ai/little.model-1"
FETCHED = {"config.json", "generation_config.json", "LICENSE", "model.safetensors.index.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[dict[str, bytes], torch.nn.Module]:
    """The files of a small model with shards, and with much that nobody needs."""
    folder = tmp_path_factory.mktemp("published")
    decoder = random_decoder()
    save_checkpoint(folder, decoder, family="telechat2", shard_bytes=9000)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "digests.json"}
    for name in FETCHED - files.keys():
        files[name] = b'{"of": "%s"}' % name.encode()
    for name in ("pytorch_model.bin", "model.gguf", "training_args.bin", "modeling_little.py", "README.md", "onnx/model.safetensors"):
        files[name] = b"no" * 1000
    return files, decoder


class Said(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


both = pytest.mark.parametrize("scheme", ["hf", "ms"])


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@both
def test_a_name_becomes_a_folder_with_what_is_needed_and_nothing_else(hub, model, scheme):
    files, decoder = model
    hub.publish(NAME, files)
    folder = find_folder(f"{scheme}:{NAME}")
    shards = {name for name in files if name.startswith("model-")}
    assert names_in(folder) == FETCHED | shards and len(shards) > 1
    assert set(hub.fetched) == FETCHED | shards
    assert torch.equal(load_checkpoint(f"{scheme}:{NAME}").decoder.head_weight, decoder.head_weight)
    assert dict.fromkeys(hub.fetched, 1) == hub.fetched, "the second time everything was in the cache"
    assert find_folder(folder) == folder and shown_name(folder) == NAME and shown_name(Path("runs/mine")) == "mine"


@both
def test_without_weights_only_the_description_is_fetched(hub, model, scheme):
    hub.publish(NAME, model[0])
    assert names_in(find_folder(f"{scheme}:{NAME}", weights=False)) == FETCHED - {"model.safetensors.index.json"}


@both
def test_a_revision_is_another_folder(hub, model, scheme):
    hub.publish(NAME, model[0])
    hub.publish(NAME, {**model[0], "LICENSE": b"another"}, revision="v2.0")
    assert (find_folder(f"{scheme}:{NAME}@v2.0") / "LICENSE").read_bytes() == b"another"
    assert (find_folder(f"{scheme}:{NAME}") / "LICENSE").read_bytes() == model[0]["LICENSE"]


@both
def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, model, scheme, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    files, decoder = model
    hub.publish(NAME, files)
    shard = sorted(name for name in files if name.startswith("model-"))[0]
    hub.cut_after[shard] = 5000
    assert torch.equal(load_checkpoint(f"{scheme}:{NAME}").decoder.head_weight, decoder.head_weight)
    assert [asked.split("-")[-2].split("=")[-1] for asked in hub.ranges] == ["5000"]


@both
def test_what_a_broken_run_fetched_is_not_fetched_again(hub, model, scheme, monkeypatch):
    files = {name: content for name, content in model[0].items() if not name.startswith("model-")}
    hub.publish(NAME, files | {"model.safetensors": b"x" * 3000})
    hub.altered["model.safetensors"] = b"x" * 2000
    with pytest.raises(CheckpointError):
        find_folder(f"{scheme}:{NAME}")
    hub.altered.clear()
    whole = {name for name in hub.fetched if name != "model.safetensors"}
    find_folder(f"{scheme}:{NAME}")
    assert all(hub.fetched[name] == 1 for name in whole) and len(whole) >= 2


@both
def test_a_wrong_checksum_is_refused_and_the_file_fetched_anew_the_next_time(hub, model, scheme, monkeypatch):
    files, decoder = model
    hub.publish(NAME, files)
    shard = sorted(name for name in files if name.startswith("model-"))[0]
    damaged = bytearray(files[shard])
    damaged[-2] ^= 4
    hub.altered[shard] = bytes(damaged)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=rf"{shard} came damaged.*SHA-256"):
            find_folder(f"{scheme}:{NAME}")
    hub.altered.clear()
    assert torch.equal(load_checkpoint(f"{scheme}:{NAME}").decoder.head_weight, decoder.head_weight)


def test_a_file_that_another_tool_left_damaged_in_the_cache_is_found(hub, model):
    hub.publish(NAME, model[0])
    shard = sorted(find_folder(f"hf:{NAME}").glob("model-*.safetensors"))[0].resolve()
    content = bytearray(shard.read_bytes())
    content[-2] ^= 4
    os.chmod(shard, 0o644)
    shard.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="came damaged"):
        find_folder(f"hf:{NAME}")


@both
@pytest.mark.parametrize("switch", ["BEICHEN_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_the_cache_serves_and_nobody_is_asked(hub, model, scheme, switch, monkeypatch):
    hub.publish(NAME, model[0])
    online = find_folder(f"{scheme}:{NAME}")
    asked = hub.asked
    monkeypatch.setenv(switch, "1")
    assert find_folder(f"{scheme}:{NAME}") == online
    with pytest.raises(CheckpointError, match="not in the cache, and the network is switched off"):
        find_folder(f"{scheme}:{NAME}@v9")
    assert hub.asked == asked


@both
def test_without_network_the_cache_serves_with_a_warning_else_the_error_says_so(hub, model, scheme, monkeypatch):
    hub.publish(NAME, model[0])
    online = find_folder(f"{scheme}:{NAME}")
    hub.url = "http://127.0.0.1:9"  # nothing answers there
    point_at(hub, monkeypatch)
    said = Said()
    assert find_folder(f"{scheme}:{NAME}", reporter=said) == online
    assert len(said.warnings) == 1 and "cannot be reached" in said.warnings[0] and "using what the cache holds" in said.warnings[0]
    with pytest.raises(UnreachableError, match=rf"{scheme}:other/model: the hub cannot be reached") as fault:
        find_folder(f"{scheme}:other/model")
    assert "network" in (fault.value.remedy or "")


@both
def test_an_incomplete_cache_offline_names_the_shard_that_is_missing(hub, model, scheme, monkeypatch):
    hub.publish(NAME, model[0])
    folder = find_folder(f"{scheme}:{NAME}")
    gone = sorted(folder.glob("model-*.safetensors"))[1]
    gone.unlink()
    monkeypatch.setenv("BEICHEN_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=rf"1 missing: {gone.name}"):
        load_checkpoint(f"{scheme}:{NAME}")


@both
@pytest.mark.parametrize("private", [False, True])
def test_a_name_that_does_not_exist_or_is_private_says_both(hub, model, scheme, private):
    if private:
        hub.publish(NAME, model[0])
        hub.private.add(NAME)
    with pytest.raises(CheckpointError, match=f"no model '{NAME}', or it is private") as fault:
        find_folder(f"{scheme}:{NAME}")
    assert not isinstance(fault.value, UnreachableError) and "login" in (fault.value.remedy or "")


@both
def test_a_revision_that_does_not_exist(hub, model, scheme):
    hub.publish(NAME, model[0])
    with pytest.raises(CheckpointError, match="has no revision 'v7'"):
        find_folder(f"{scheme}:{NAME}@v7")


def test_a_gated_model_says_that_terms_are_to_be_accepted(hub, model):
    hub.publish(NAME, model[0])
    hub.gated.add(NAME)
    with pytest.raises(CheckpointError, match="accept its terms"):
        find_folder(f"hf:{NAME}")


@pytest.mark.parametrize(("scheme", "package"), [("hf", "huggingface_hub"), ("ms", "modelscope_hub")])
def test_a_missing_library_says_what_to_install(monkeypatch, scheme, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package) as fault:
        find_folder(f"{scheme}:{NAME}")
    assert fault.value.remedy == "pip install 'beichen[hub]'"


def test_names_and_paths():
    assert hub_name("hf:org/name") == HubName("hf", "org/name", None)
    assert hub_name(Path("ms:org/na.me-1@refs/pr/3")) == HubName("ms", "org/na.me-1", "refs/pr/3")
    assert str(hub_name("ms:a/b@v1")) == "ms:a/b@v1"
    assert hub_name("runs/hf:org") is None and hub_name(Path("hf")) is None
    assert find_folder("runs/quickstart-001") == Path("runs/quickstart-001")
    for wrong in ("hf:", "hf:name", "hf:a/b/c", "ms:a/b@", "hf:a b/c", "hf://org/name"):
        with pytest.raises(CheckpointError, match="not the name of a model"):
            hub_name(wrong)


def chosen(*names: str) -> set[str]:
    return {
        file.name for file in needed([HubFile(name, 1, None) for name in ("config.json", *names)], HubName("hf", "a/b", None), weights=True)
    }


def test_weights_are_chosen_in_one_format():
    shards = ("pytorch_model_00001-of-00002.bin", "pytorch_model_00002-of-00002.bin")
    assert chosen(*shards, "pytorch_model.bin.index.json", "training_args.bin") == {"config.json", *shards, "pytorch_model.bin.index.json"}
    assert chosen("model.safetensors", "pytorch_model.bin", "consolidated.safetensors") == {"config.json", "model.safetensors"}
    assert chosen("telechat.pth", "tokenizer.model", "TeleChat模型社区许可协议.pdf") == {
        "config.json", "telechat.pth", "tokenizer.model", "TeleChat模型社区许可协议.pdf",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=r"none of its files holds weights as we read them \(m\.gguf\)"):
        chosen("m.gguf")
