"""Laws of cleaning: what a step takes is counted to the byte, what it must not touch stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from beichen.data.cleaning import STEPS, Cleaner
from beichen.data.masking import mask
from beichen.errors import SettingsError
from tests.shared_data import shared

PLAIN = [name for name in STEPS if name != "t2s"]  # needs an extra


def records(name: str) -> Iterator[dict[str, Any]]:
    for line in shared(f"data/corpus/dirty/{name}").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            yield json.loads(line)


def test_masking_finds_what_is_listed_and_nothing_else() -> None:
    for record in records("pii_like.jsonl"):
        text, found = mask(record["text"])
        assert sum(found.values()) == len(record["expected_mask"]), record["id"]
        assert not any(secret in text for secret in record["expected_mask"]), record["id"]
        if not record["expected_mask"]:
            assert text == record["text"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("号码11010519491231002X。", "号码<id>。"),  # the standard's own example, its check sign is right
        ("卡 4111 1111 1111 1111 可用", "卡 <card> 可用"),
        ("ip=10.0.0.1, 版本 1.2.3.4.5, 999.1.1.1", "ip=<address>, 版本 1.2.3.4.5, 999.1.1.1"),
        ("std::vector<int> a::b::c d::a fe80::1", "std::vector<int> a::b::c d::a <address>"),
        ("2023-07-07 12:34:56", "2023-07-07 12:34:56"),
    ],
)
def test_check_digits_and_forms_decide(text: str, masked: str) -> None:
    assert mask(text)[0] == masked


def test_every_step_counts_its_bytes_and_runs_twice_alike() -> None:
    texts = [record["text"] for record in records("control_and_unicode.jsonl") if record["id"] != "u8"]
    texts += [record["text"] for name in ("html_leftovers", "pii_like", "mixed_language") for record in records(f"{name}.jsonl")]
    for steps in ([name] for name in PLAIN):
        for text in texts:
            cleaned = Cleaner(steps)(text)
            assert len(text.encode()) == len(cleaned.text.encode()) + sum(cleaned.changed.values())
            if cleaned.dropped is None and steps != ["mask"]:
                again = Cleaner(steps)(cleaned.text)
                assert (again.text, again.dropped) == (cleaned.text, None)


def test_html_goes_and_code_stays() -> None:
    page, code = (record["text"] for record in records("html_leftovers.jsonl"))
    text = Cleaner(["html"])(page).text
    assert text.startswith("首页 | 登录\nLinux") and text.endswith("<ok>") and "alert" not in text and "&nbsp;" not in text
    assert Cleaner(["html"])(code).text == code


def test_steps_run_in_one_order_however_they_are_named() -> None:
    text = "<p>ＡＢＣ\u200b</p><br><b>" + "long enough " * 9
    assert Cleaner(["nfkc", "control", "html"])(text) == Cleaner(["html", "control", "nfkc"])(text)
    assert Cleaner(["html", "nfkc", "control"])(text).text.startswith("ABC")
    assert Cleaner(["length=3:5"])("abcdef").dropped == "too long" and Cleaner(["length=3:5"])("abcde").dropped is None
    assert Cleaner(["control"])("\u200b").dropped == "blank after cleaning"


@pytest.mark.parametrize("name", ["zh_novels_classic.jsonl", "zh_poetry.jsonl", "en_tinyshakespeare.jsonl"])
def test_good_text_is_kept(name: str) -> None:
    clean = Cleaner(["mojibake", "language", "lines", "repetition"])
    lines = shared(f"data/corpus/{name}").read_text(encoding="utf-8").split("\n")[:200]
    assert [found.dropped for line in lines if line and (found := clean(json.loads(line)["text"])).dropped] == []


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("nfk", "mean 'nfkc'"),
        ("length=5", "expected two numbers"),
        ("lines=x", "expected one"),
        ("language=xx:0.5", "'xx' is none"),
    ],
)
def test_wrong_steps_are_named(step: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Cleaner([step])
