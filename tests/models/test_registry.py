"""Which family a config belongs to is decided by its keys; every preset counts what its publisher says."""

from __future__ import annotations

from itertools import combinations

import pytest

from beichen.errors import ConfigError
from beichen.models.presets import count_parameters, presets
from beichen.models.registry import FAMILIES, family_of, load_family

PUBLISHED_COUNTS = {
    "telechat-7b": 7_200_018_432,
    "telechat-12b": 12_386_432_000,
    "telechat-12b-v2": 12_386_432_000,
    "telechat-52b": 52_832_509_952,
    "telechat2-3b": 3_070_528_512,
    "telechat2-7b": 7_617_351_680,
    "telechat2-7b-32k": 7_617_351_680,
    "telechat2-35b": 35_435_059_200,
    "telechat2-35b-32k": 35_435_059_200,
    "telechat2-115b": 113_282_916_352,
    "telechat2-39b-a12b": 39_330_099_200,
    "ndl-0.8b": 767_176_000,
    "ndl-moe-1.3b": 1_306_115_200,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "llama3.3-70b": 70_553_706_496,
    "qwen-1.8b": 1_836_828_672,
    "qwen-7b": 7_721_324_544,
    "qwen-14b": 14_167_290_880,
    "qwen1.5-0.5b": 463_987_712,
    "qwen1.5-1.8b": 1_836_828_672,
    "qwen1.5-4b": 3_950_369_280,
    "qwen1.5-7b": 7_721_324_544,
    "qwen1.5-14b": 14_167_290_880,
    "qwen1.5-32b": 32_512_218_112,
    "qwen1.5-72b": 72_287_920_128,
    "qwen1.5-110b": 111_209_914_368,
    "qwen2-0.5b": 494_032_768,
    "qwen2-1.5b": 1_543_714_304,
    "qwen2-7b": 7_615_616_512,
    "qwen2-72b": 72_706_203_648,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
}


PUBLISHED_ACTIVE = {"telechat2-39b-a12b": 12_149_534_720, "ndl-moe-1.3b": 711_376_000}  # elsewhere: all of them


@pytest.mark.parametrize("name", ["TelechatForCausalLM", "TeleChatForCausalLM", "Telechat2ForCausalLM", "TeleChat2ForCausalLM", "TELECHAT"])
def test_every_published_name_of_telechat2_is_decided_by_its_keys(name):
    assert family_of({"architectures": [name], "base_seqlen": 8192}) == "telechat2"


@pytest.mark.parametrize(
    ("keys", "family"), [({"n_embd": 64}, "telechat52b"), ({"use_mup": True}, "telechat52b"), ({"num_experts": 4}, "telechat2")]
)
def test_another_generation_under_the_same_name_is_told_by_its_keys(keys, family):
    assert family_of({"architectures": ["TelechatForCausalLM"], **keys}) == family


@pytest.mark.parametrize(("first", "second"), combinations(FAMILIES, 2))
def test_families_of_one_name_are_told_apart_by_keys(first, second):
    one, other = FAMILIES[first], FAMILIES[second]
    if {*one.architectures, *one.model_types} & {*other.architectures, *other.model_types}:
        assert other.told_by and not set(other.told_by) & set(one.told_by)


def test_without_a_base_length_it_is_the_first_generation():
    assert family_of({"architectures": ["TelechatForCausalLM"], "model_type": "telechat"}) == "telechat"


def test_experts_are_asked_of_families_that_have_them():
    assert load_family("ndl", experts=True) is load_family("ndl")
    with pytest.raises(ConfigError, match="family 'llama' has no mixture of experts") as fault:
        load_family("llama", experts=True)
    assert fault.value.remedy == "leave the experts out, or take a family that has them: ndl, telechat2"


def test_model_type_decides_where_no_architecture_is_stated():
    assert family_of({"model_type": "llama"}) == "llama"


@pytest.mark.parametrize(
    "published", [{"architectures": ["LlamaForCausalLN"]}, {"architectures": ["LlamaForCausalLN"], "model_type": "llama"}]
)
def test_an_unknown_architecture_lists_the_known_and_the_nearest(published):
    with pytest.raises(ConfigError, match=r"did you mean 'LlamaForCausalLM'") as fault:
        family_of(published)
    assert "TeleChat2ForCausalLM" in str(fault.value)


def test_a_config_without_any_name_is_an_error():
    with pytest.raises(ConfigError, match="architectures"):
        family_of({"hidden_size": 8})


def test_an_unknown_family_name_is_an_error():
    with pytest.raises(ConfigError, match="did you mean 'telechat2'"):
        load_family("telechat-2")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_presets_belong_to_their_family_and_count_as_published(name):
    family = load_family(name)
    assert family.sizes
    for size, published in family.sizes.items():
        assert family_of(published) == name
        config = family.to_decoder_config(published)
        assert count_parameters(config).total == PUBLISHED_COUNTS[size]
        assert family.to_decoder_config(family.from_decoder_config(config)) == config


@pytest.mark.parametrize("preset", list(presets()), ids=lambda preset: preset.name)
def test_active_parameters_are_those_that_a_token_meets(preset):
    counts = count_parameters(preset.config)
    assert counts.active == PUBLISHED_ACTIVE.get(preset.name, counts.total)
    assert counts.total - counts.non_embedding == counts.active - counts.active_non_embedding
    if preset.name == "ndl-moe-1.3b":
        assert (counts.non_embedding, counts.active_non_embedding) == (1_111_139_200, 516_400_000)


def test_the_scalars_without_weights_of_52b_make_up_the_size_of_its_published_files():
    family = load_family("telechat52b")
    config = family.to_decoder_config(family.sizes["telechat-52b"])
    scalars = family.names.constant_scalars(config)
    assert len(scalars) == 64 and 2 * (count_parameters(config).total + len(scalars)) == 105_665_020_032
