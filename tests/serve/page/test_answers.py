"""What the page makes of an answer's parts, its faults, its keys and its reader's wishes; the answers are written by the tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.page.scripted import Script, ask, ended, fault, kept, shown, stream, until

WIDE = (
    "```text\n"
    + "很长的一行代码 " * 40
    + "\n```\n\n| a | b |\n|---|---|\n| "
    + "宽" * 200
    + " | 2 |\n\n$$"
    + "x + " * 90
    + "y$$\n\n"
    + "无空格" * 200
)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with live_server(LanguageModel(small_decoder(), small_tokenizer(), family="telechat2"), ui=True) as server:
        yield server


def test_thoughts_and_calls_are_folded_and_results_go_back(live, visit):
    page = visit(live.url)
    first = stream("我查一下。", thought="要查天气", calls=[("weather", '{"city":"北京"}'), ("time", "{}")])
    script = Script(page, first, stream("晴，三点。"))
    ask(page, "天气和时间？")
    ended(page)
    folds = page.locator(".turn.assistant details")
    assert folds.locator("summary").all_inner_texts() == ["思考过程", "调用 weather", "调用 time"]
    assert not any(folds.nth(place).get_attribute("open") is not None for place in range(3))
    folds.nth(1).locator("summary").click()
    expect(folds.nth(1).locator("pre")).to_have_text('{\n  "city": "北京"\n}')
    page.fill(".results textarea >> nth=0", "晴")
    page.fill(".results textarea >> nth=1", "15:00")
    page.click(".results button")
    ended(page, answers=2)
    called, *results = script.asked[1]["messages"][1:]
    assert called["reasoning_content"] == "要查天气" and [call["function"]["name"] for call in called["tool_calls"]] == ["weather", "time"]
    assert results == [{"role": "tool", "content": text, "tool_call_id": f"call_{n}"} for n, text in enumerate(("晴", "15:00"))]
    assert shown(page)[1] == "晴，三点。"


def test_settings_go_with_the_request(live, visit):
    page = visit(live.url)
    script = Script(page, stream("a"))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    page.click("#settings")
    values = {"temperature": "0.7", "top_p": "0.9", "seed": "7", "max_tokens": "99", "min_p": "3"}  # the last cannot be
    for name, value in values.items():
        page.fill(f"#set-{name}", value)
        page.press(f"#set-{name}", "Tab")
    page.fill("#set-stop", "完\n。")
    page.fill("#set-tools", json.dumps(tools))
    page.fill("#set-system", "你是北辰。")
    page.press("#set-system", "Tab")
    page.select_option("#set-thinking", label="直接回答")
    page.click("#panel .tool")
    ask(page, "问")
    ended(page)
    assert script.asked == [{
        "model": "small", "messages": [{"role": "system", "content": "你是北辰。"}, {"role": "user", "content": "问"}],
        "temperature": 0.7, "top_p": 0.9, "seed": 7, "max_tokens": 99, "stop": ["完", "。"], "tools": tools,
        "chat_template_kwargs": {"enable_thinking": False}, "stream": True, "stream_options": {"include_usage": True},
    }]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fault(429, "too many", "overloaded"), "服务器繁忙，或此密钥同时进行的回答已满，请稍后再试。"),
        (fault(400, "messages: it has 2102 tokens", "context_length_exceeded"), "对话超出了模型能读的长度，请新建对话，或改短内容。"),
        ('data: {"error": {"message": "too long", "code": "timeout"}}\n\n', "回答超过了服务器允许的时间，请让它答得短些。"),
        (fault(400, "messages: too long <b>", "invalid"), "服务器拒绝了请求：messages: too long <b>"),
        (stream("只有一半", cut=True), "回答途中连接中断。"),
        (stream("长", finish="length"), "回答已达长度上限。"),
        ('data: {"error": {"message": "the engine failed", "code": null}}\n\ndata: [DONE]\n\n', "服务器拒绝了请求：the engine failed"),
        ({"status": 502, "body": "<html>proxy"}, "服务器拒绝了请求：Bad Gateway"),
    ],
)
def test_a_fault_is_said_and_can_be_tried_again(live, visit, answer, words):
    page = visit(live.url, expect=("Failed to load resource",))
    Script(page, answer, stream("好了"))
    ask(page, "问")
    ended(page)
    assert page.locator(".note").inner_text() == page.locator("#status").text_content() == words
    page.click("button[aria-label=重新回答]")
    until(page, "document.querySelector('.prose')?.innerText === '好了'")
    assert not page.locator(".note").is_visible()


def test_a_server_that_is_gone_is_named(live, visit):
    page = visit(live.url, expect=("Failed to load resource",))
    page.route("**/v1/chat/completions", lambda route: route.abort("connectionrefused"))
    ask(page, "问")
    ended(page)
    assert page.locator(".note.fault").inner_text() == "无法连接服务器。服务是否在运行？"


def test_an_input_method_s_enter_does_not_send(live, visit):
    page = visit(live.url)
    script = Script(page, stream("好"))
    page.focus("#prompt")
    keyboard = page.context.new_cdp_session(page)
    keyboard.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    page.keyboard.press("Enter")
    assert script.asked == [] and shown(page, "user") == []
    keyboard.send("Input.imeSetComposition", {"text": "", "selectionStart": 0, "selectionEnd": 0})
    page.fill("#prompt", "")
    keyboard.send("Input.insertText", {"text": "你好"})
    page.keyboard.press("Shift+Enter")
    keyboard.send("Input.insertText", {"text": "世界"})
    assert script.asked == []
    page.keyboard.press("Enter")
    ended(page)
    assert script.asked[0]["messages"][-1]["content"] == "你好\n世界"


def test_on_a_phone_nothing_is_wider_than_the_screen(live, visit):
    page = visit(live.url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True, device_scale_factor=2)
    Script(page, stream(WIDE))
    ask(page, "https://example.org/" + "x" * 300)
    ended(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("""[...document.querySelectorAll('.prose > *, .bubble, header > *, #composer')]
        .every((one) => one.getBoundingClientRect().right <= innerWidth + 1)""")
    expect(page.locator("#sidebar")).not_to_be_visible()
    page.tap("#menu")
    expect(page.locator("#conversations .open")).to_be_visible()
    page.touchscreen.tap(350, 400)
    expect(page.locator("#sidebar")).not_to_be_visible()
    page.tap("#settings")
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= innerWidth")


def test_night_and_day_follow_the_system_until_one_is_chosen(live, visit):
    def ground(page):
        channels = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
        return "dark" if sum(map(int, channels[:3])) < 300 else "light"

    page = visit(live.url, color_scheme="dark")
    assert ground(page) == "dark" and page.locator("#theme-name").inner_text() == "跟随系统"
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert ground(page) == "light"
    for name, expected in (("浅色", "light"), ("深色", "dark")):
        page.click("#theme")
        assert page.locator("#theme-name").inner_text() == name and ground(page) == expected
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert ground(page) == "dark"


def test_the_language_follows_the_browser_until_one_is_chosen(live, visit):
    page = visit(live.url, locale="fr-FR")  # neither of the two
    Script(page, stream("hi"))
    assert page.locator("html").get_attribute("lang") == "en"
    ask(page, "hello")
    ended(page)
    page.click("#language")
    assert page.locator("html").get_attribute("lang") == "zh-Hans" and page.locator("#new").inner_text() == "新对话"
    assert page.locator(".turn.assistant h2").text_content() == "回答"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#new").inner_text() == "新对话"


def test_conversations_get_names_and_go_for_good(live, visit):
    page = visit(live.url)
    Script(page, stream("一"), stream("二"))
    for text in ("第一个", "第二个"):
        page.click("#new")
        ask(page, text)
        ended(page)
    assert page.locator("#conversations .open").all_inner_texts() == ["第二个", "第一个"]
    page.hover("#conversations li >> nth=1")
    page.click("button[aria-label='重命名: 第一个']")
    page.fill("#conversations input", "改名")
    page.press("#conversations input", "Enter")
    page.wait_for_selector("#conversations >> text=改名")
    page.hover("#conversations li >> text=第二个")
    page.click("button[aria-label='删除: 第二个']")
    page.click("dialog.question button[value='']")
    assert len(kept(page)) == 2
    page.click("button[aria-label='删除: 第二个']")
    page.click("dialog.question button[value=yes]")
    page.wait_for_selector(".welcome")
    assert [conversation["title"] for conversation in kept(page)] == ["改名"]


def test_two_tabs_of_one_browser_know_of_each_other(live, visit):
    page = visit(live.url)
    other = visit(live.url, context=page.context)
    Script(page, stream("答"))
    ask(page, "问")
    ended(page)
    other.wait_for_selector("#conversations >> text=问")
    other.click("#conversations .open")
    ended(other)
    assert shown(other) == ["答"]


def test_code_is_copied_letter_by_letter(live, visit):
    page = visit(live.url, permissions=["clipboard-read", "clipboard-write"])
    code = 'if a < b:\n    print("<b>你好</b>")'
    Script(page, stream(f"看：\n\n```python\n{code}\n```\n"))
    ask(page, "代码")
    ended(page)
    page.click("button[aria-label=复制代码]")
    page.wait_for_selector(".icon.check")
    assert page.evaluate("navigator.clipboard.readText()") == code


def test_everything_that_can_be_pressed_or_filled_in_has_a_name(live, visit):
    page = visit(live.url)
    Script(page, stream("看\n\n```\nx\n```", calls=[("f", "{}")]))
    ask(page, "问")
    ended(page)
    page.click("#settings")
    nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, textarea, summary, nav, dialog')].filter((one) =>
        !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim())).map((one) => one.outerHTML)""")
    assert nameless == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "settings"  # back where the reader was
    assert page.locator("#status").text_content() == "回答完毕。"
