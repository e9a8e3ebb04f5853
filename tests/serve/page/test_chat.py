"""The chat page before a real server: answers that stream, stop and come again, and two readers who never see each other's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.page.scripted import PATIENCE, Pace, ask, ended, kept, shown, until
from tests.serve.test_app import assert_all_is_free

LENGTH = 60  # tokens of an answer


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")


@pytest.fixture(scope="module")
def live(model: LanguageModel) -> Iterator[Live]:
    with live_server(model, ui=True) as server:
        yield server


@pytest.fixture
def pace(live: Live) -> Iterator[Pace]:
    pace = Pace()
    pace.attach(live.service.worker.engine)
    yield pace
    pace.let_go()
    del vars(live.service.worker.engine)["step"]


def choose(page: Page, **sampling: float) -> None:
    """Set sampling as a reader does."""
    page.click("#settings")
    for name, value in sampling.items():
        page.fill(f"#set-{name}", str(value))
        page.press(f"#set-{name}", "Tab")
    page.keyboard.press("Escape")


def begun(page: Page, pace: Pace) -> None:
    """Step by step until a part of the answer can be read."""
    page.wait_for_selector(".running")
    while not page.evaluate("document.querySelector('.running .prose').textContent.trim().length > 3"):
        pace.take(1)
        page.wait_for_timeout(20)


def test_an_answer_streams_and_is_the_model_s_own(live, model, pace, visit):
    page = visit(live.url)
    choose(page, temperature=0, max_tokens=LENGTH)
    expected = model.chat([{"role": "user", "content": "今天天气怎么样？"}], max_new_tokens=LENGTH)
    with pace.holding():
        ask(page, "今天天气怎么样？")
        begun(page, pace)
        partial = shown(page)[0]
        expect(page.locator("#stop")).to_be_visible()
        expect(page.locator(".running .figures")).not_to_be_empty()
    ended(page)
    turn = kept(page)[0]["turns"][1]
    assert turn["content"] == expected.text and turn["tokens"] == len(expected.ids) and turn["finish"] == expected.finish_reason
    assert len(partial) < len(shown(page)[0])
    assert str(len(expected.ids)) in page.locator(".figures").inner_text()


def test_stop_ends_the_answer_and_frees_what_it_held(live, pace, visit):
    page = visit(live.url)
    choose(page, temperature=0, max_tokens=900)
    with pace.holding():
        ask(page, "一二三四")
        begun(page, pace)
        page.click("#stop")
        page.wait_for_selector(".note:not([hidden])")
        pace.take(3)  # the engine learns of it at its next step
        ended(page)
        assert_all_is_free(live)
    turn = kept(page)[0]["turns"][1]
    assert turn["finish"] == "stopped" and turn["content"] and page.locator(".note").inner_text() == "已停止。"
    assert page.locator("#status").text_content() == "已停止。"  # those who listen are told the same
    choose(page, max_tokens=5)
    ask(page, "再来")  # and the next one is answered
    ended(page, answers=2)


def test_answer_again_keeps_both_versions(live, visit):
    page = visit(live.url)
    choose(page, temperature=1.5, max_tokens=20)
    ask(page, "你好")
    ended(page)
    page.click("button[aria-label=重新回答]")
    until(page, "document.querySelector('.versions')?.textContent === '2/2'")
    ended(page)
    first, second = [turn["content"] for turn in kept(page)[0]["turns"][1:]]
    assert first != second
    page.click("button[aria-label=上一版]")
    until(page, "document.querySelector('.versions')?.textContent === '1/2'")
    until(page, "import('./page/store.js').then((it) => it.conversations()).then(([one]) => one.leaf === one.turns[1].id)")
    page.reload()
    until(page, "document.querySelector('.versions')?.textContent === '1/2'")
    assert len(kept(page)[0]["turns"]) == 3


def test_a_message_is_edited_and_sent_again(live, model, visit):
    page = visit(live.url)
    choose(page, temperature=0, max_tokens=20)
    for number, text in enumerate(("一", "二"), 1):
        ask(page, text)
        ended(page, answers=number)
    page.hover(".turn.user >> nth=0")
    page.click("button[aria-label=编辑] >> nth=0")
    page.fill(".edit textarea", "三")
    page.press(".edit textarea", "Enter")
    until(page, "document.querySelector('.turn.user .bubble')?.textContent === '三'")
    ended(page)
    expected = model.chat([{"role": "user", "content": "三"}], max_new_tokens=20)
    turns = kept(page)[0]["turns"]
    assert turns[-1]["content"] == expected.text and [turn["content"] for turn in turns if turn["role"] == "user"] == ["一", "二", "三"]
    page.click(".turn.user button[aria-label=上一版]")  # the other way is still there, to its end
    until(page, "document.querySelectorAll('.turn').length === 4")
    assert shown(page, "user") == ["一", "二"]


def test_two_readers_side_by_side_never_see_each_other_s(live, pace, visit):
    one, other = visit(live.url), visit(live.url, locale="en-GB")
    with pace.holding():
        for page in (one, other):
            choose(page, max_tokens=30, seed=1)
        ask(one, "甲的问题")
        ask(other, "the other's question")
        pace.take(8)
        for page in (one, other):
            page.wait_for_selector(".running")
    for page, own in ((one, "甲的问题"), (other, "the other's question")):
        ended(page)
        page.reload()
        page.wait_for_selector(".turn.assistant")
        assert shown(page, "user") == [own] and [conversation["title"] for conversation in kept(page)] == [own]


def test_a_chinese_conversation_is_sent_whole_and_kept(live, model, visit):
    page = visit(live.url)
    choose(page, temperature=0, max_tokens=20)
    page.click("#settings")
    page.fill("#set-system", "请简短回答。")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    messages = [{"role": "system", "content": "请简短回答。"}]
    for number, text in enumerate(("北京在哪里？", "那上海呢？😀"), 1):
        ask(page, text)
        ended(page, answers=number)
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": model.chat(messages, max_new_tokens=20).text})
    page.reload()
    page.wait_for_selector(".turn.assistant >> nth=1")
    assert [turn["content"] for turn in kept(page)[0]["turns"]] == [message["content"] for message in messages[1:]]
    assert shown(page, "user") == ["北京在哪里？", "那上海呢？😀"]
    assert page.locator("html").get_attribute("lang") == "zh-Hans" and page.title() == "北京在哪里？ · 北辰"


def test_an_answer_goes_on_while_another_conversation_is_open(live, pace, visit):
    page = visit(live.url)
    choose(page, max_tokens=30)
    with pace.holding(steps=5):
        ask(page, "第一个")
        page.wait_for_selector(".running")
        page.click("#new")
        page.wait_for_selector(".welcome")
        expect(page.locator(".dot")).to_be_visible()
        expect(page.locator("#send")).to_be_visible()
    page.wait_for_selector(".dot", state="detached")
    page.click("text=第一个")
    ended(page)
    assert kept(page)[0]["turns"][1]["tokens"] > 5


def test_nothing_is_sent_a_second_time_while_an_answer_comes(live, pace, visit):
    page = visit(live.url)
    choose(page, max_tokens=20)
    ask(page, "一")
    ended(page)
    page.hover(".turn.user")
    page.click("button[aria-label=编辑]")
    page.fill(".edit textarea", "改过的")
    with pace.holding():
        ask(page, "二")
        page.wait_for_selector(".running")
        page.press(".edit textarea", "Enter")  # it stays open, for later
        expect(page.locator("button[aria-label=重新回答]")).to_be_disabled(timeout=PATIENCE)
    ended(page, answers=2)
    assert [turn["content"] for turn in kept(page)[0]["turns"] if turn["role"] == "user"] == ["一", "二"]
    page.press(".edit textarea", "Enter")
    until(page, "document.querySelector('.turn.user .bubble')?.textContent === '改过的'")
    ended(page)


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_away(live, pace, visit):
    page = visit(live.url)
    choose(page, max_tokens=900)
    with pace.holding():
        ask(page, "走开")
        begun(page, pace)
        page.click("button[aria-label='删除: 走开']")
        page.click("dialog.question button[value=yes]")
        page.wait_for_selector(".welcome")
    choose(page, max_tokens=5)
    ask(page, "还在吗")
    ended(page)
    assert [conversation["title"] for conversation in kept(page)] == ["还在吗"]


@pytest.mark.parametrize("size", [(1200, 800), (390, 844)])
def test_the_field_of_the_key_is_seen_with_what_the_server_says_of_the_key(model, visit, size):
    with live_server(model, ui=True, keys=("right-key",)) as live:
        page = visit(live.url, expect=("401 (Unauthorized)",), viewport={"width": size[0], "height": size[1]})
        field, told = page.locator("#set-key"), page.locator("#set-key-told")

        def sees(words: str) -> None:
            expect(told).to_have_text(words, timeout=PATIENCE)
            expect(field).to_be_focused(timeout=PATIENCE)
            for part in (field, told):
                expect(part).to_be_in_viewport(ratio=1, timeout=PATIENCE)
            above, below = told.bounding_box(), field.bounding_box()
            assert above is not None and below is not None and above["y"] + above["height"] <= below["y"]

        sees("此服务器需要 API 密钥，请在下方填写。")
        field.fill("wrong")
        field.press("Enter")
        sees("密钥不正确。")
        page.keyboard.press("Escape")
        page.click("#settings")  # whoever comes back finds the same
        sees("密钥不正确。")
        field.fill("right-key")
        field.press("Enter")
        sees("密钥正确。")
        page.keyboard.press("Escape")
        page.click("#settings")
        expect(told).to_be_hidden()
        expect(field).not_to_be_focused()


def test_a_key_is_asked_for_and_forgotten_with_the_tab(model, visit):
    refused = "401 (Unauthorized)"  # what Chromium's console says of it
    with live_server(model, ui=True, keys=("right-key",)) as live:
        page = visit(live.url, expect=(refused,))
        page.wait_for_selector("#set-key")
        page.fill("#set-key", "wrong")
        page.press("#set-key", "Tab")
        page.keyboard.press("Escape")
        ask(page, "你好")
        page.wait_for_selector(".turn .note.fault:has-text('API 密钥不正确')")
        page.wait_for_selector("#panel[open]")
        page.fill("#set-key", "right-key")
        page.press("#set-key", "Tab")
        page.wait_for_selector("#model option", state="attached")
        page.keyboard.press("Escape")
        choose(page, max_tokens=5)
        page.click("button[aria-label=重新回答]")
        until(page, "document.querySelector('.figures')")
        assert "right-key" not in page.evaluate("JSON.stringify(localStorage)")
        later = visit(live.url, context=page.context, expect=(refused,))  # another tab of the same browser
        later.wait_for_selector("#set-key")
        later.fill("#set-key", "right-key")
        later.check("#set-remember")
        third = visit(live.url, context=page.context)
        third.wait_for_selector("#model option", state="attached")
