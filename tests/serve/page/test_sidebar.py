"""The list of conversations: found by words, renamed while others change, gone for good once deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.page.scripted import Script, ask, ended, kept, shown, stream

NAMES = "#conversations .open"
KEEP = """async (texts) => {
  const [{ addTurn, newConversation }, { keep }] = await Promise.all([import("./page/conversation.js"), import("./page/store.js")]);
  for (const [at, [title, content]] of texts.entries()) {
    const one = newConversation("");
    addTurn(one, null, { role: "user", content: title });
    addTurn(one, one.leaf, { role: "assistant", content });
    await keep({ ...one, changed: 1000 - at });
  }
}"""
TEXTS = [("天气", "晴天"), ("The Sea", "blue"), ("诗", "白日依山尽"), ("ＡＢＣ", "wide"), ("五", "x"), ("六", "SEA and 天气")]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with live_server(LanguageModel(small_decoder(), small_tokenizer(), family="telechat2"), ui=True) as server:
        yield server


def filled(page: Page, texts: list[tuple[str, str]]) -> None:
    page.evaluate(KEEP, texts)
    page.reload()
    page.wait_for_selector("body[data-ready]")


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_conversations_are_found_by_their_words(live, visit, phone):
    size = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True} if phone else {}
    page = visit(live.url, **size)
    filled(page, TEXTS[:5])
    expect(page.locator(NAMES)).to_have_count(5)
    assert page.locator("#search").is_hidden()  # so few are found by looking
    filled(page, TEXTS[5:])
    if phone:
        page.tap("#menu")
    for words, found in {
        "天气": ["天气", "六"], " sea  天气 ": ["六"], "sea": ["The Sea", "六"], "ABC": ["ＡＢＣ"], "依山": ["诗"], "没有": []
    }.items():  # fmt: skip
        page.fill("#search", words)
        assert sorted(page.locator(NAMES).all_inner_texts()) == sorted(found), words
        assert page.locator("#status").text_content() == f"找到 {len(found)} 个"
    page.fill("#search", "依山")
    page.click(NAMES)
    page.wait_for_selector(".turn.assistant")
    assert shown(page) == ["白日依山尽"] and page.input_value("#search") == "依山"
    if phone:
        page.tap("#menu")
        assert page.evaluate("document.querySelector('#search').getBoundingClientRect().right <= innerWidth")
    page.fill("#search", "")
    expect(page.locator(NAMES)).to_have_count(6)
    page.click("#language")
    assert page.get_attribute("#search", "placeholder") == "Search conversations"


def test_a_name_that_is_being_written_survives_news_from_another_tab(live, visit):
    page = visit(live.url)
    filled(page, TEXTS[:2])
    page.hover("#conversations li >> nth=0")
    page.click("button[aria-label='重命名: 天气']")
    page.fill("#conversations input", "新名")
    other = visit(live.url, context=page.context)
    Script(other, stream("答"))
    ask(other, "别处的问题")
    ended(other)
    page.wait_for_timeout(200)  # for the news to arrive, if it were to do harm
    page.press("#conversations input", "Enter")
    page.wait_for_selector("#conversations >> text=新名")
    assert page.locator(NAMES).all_inner_texts() == ["别处的问题", "新名", "The Sea"]


def test_escape_leaves_a_name_as_it_was(live, visit):
    page = visit(live.url)
    filled(page, TEXTS[:1])
    page.hover("#conversations li")
    page.click("button[aria-label='重命名: 天气']")
    page.fill("#conversations input", "别的")
    page.press("#conversations input", "Escape")
    assert page.locator(NAMES).all_inner_texts() == ["天气"] and [one["title"] for one in kept(page)] == ["天气"]
