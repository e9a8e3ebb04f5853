"""A conversation as a file: what a reader downloads is what was said, in a form that others can read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from beichen.inference.language_model import LanguageModel
from beichen.text.chat_requests import read_messages, read_tools
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.page.scripted import Script, ask, ended, fault, stream

PIECES = ["```", "~~~~", "`", "\n", "\n\n", "> ", "- ", "  ", "# 标题", "## You", "x", "中文", "| a | b |", "$$", "\\", "<b>", "1. "]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with live_server(LanguageModel(small_decoder(), small_tokenizer(), family="telechat2"), ui=True) as server:
        yield server


def saved(page: Page, form: str) -> tuple[str, str]:
    """The name and the text of the file that a reader gets."""
    page.click("#save")
    with page.expect_download() as download:
        page.click(f"dialog.question button[value={form}]")
    return download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8")


def test_a_conversation_is_downloaded_in_both_forms(live, visit):
    page = visit(live.url)
    page.click("#settings")
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    page.fill("#set-tools", json.dumps(tools))
    page.fill("#set-system", "你是北辰。")
    page.press("#set-system", "Tab")
    page.click("#panel .tool")
    script = Script(page, stream("查一下。", thought="想", calls=[("weather", '{"city":"北京"}')]), stream("晴 ☀️"))
    ask(page, "北京/上海：天气?")
    ended(page)
    page.fill(".results textarea", "晴")
    page.click(".results button")
    ended(page, answers=2)
    name, text = saved(page, "json")
    assert name == "北京_上海：天气_.json"
    assert json.loads(text) == {
        "messages": [*script.asked[1]["messages"], {"role": "assistant", "content": "晴 ☀️"}],
        "tools": tools,
    }
    read_messages(json.loads(text)["messages"])  # as the server reads them
    read_tools(json.loads(text)["tools"])
    name, text = saved(page, "md")
    assert name == "北京_上海：天气_.md"
    assert text == (
        "# 北京/上海：天气?\n\n**系统提示**\n\n```\n你是北辰。\n```\n\n## 您\n\n> 北京/上海：天气?\n\n## 回答 · small\n\n"
        "**思考过程**\n\n```\n想\n```\n\n查一下。\n\n"
        '**调用 weather**\n\n```json\n{"city":"北京"}\n```\n\n**weather 的结果**\n\n```\n晴\n```\n\n## 回答 · small\n\n晴 ☀️\n'
    )


def test_only_what_is_shown_and_was_answered_is_saved(live, visit):
    page = visit(live.url, locale="en-GB", expect=("Failed to load resource",))
    assert not page.locator("#save").is_visible()  # there is nothing to save
    Script(page, stream("first"), stream("second"), fault(429, "too many"))
    ask(page, "question")
    ended(page)
    page.click("button[aria-label='Answer again']")
    page.wait_for_selector(".versions")
    ended(page)
    ask(page, "and now?")
    ended(page, answers=2)
    _, text = saved(page, "json")
    assert [message["content"] for message in json.loads(text)["messages"]] == ["question", "second", "and now?"]
    _, text = saved(page, "md")
    assert text == "# question\n\n## You\n\n> question\n\n## Answer · small\n\nsecond\n\n## You\n\n> and now?\n"
    page.click("#save")
    page.keyboard.press("Escape")  # a reader who turns away gets no file
    page.wait_for_selector("dialog.question", state="detached")


def test_on_a_phone_the_question_fits_and_answers(live, visit):
    page = visit(live.url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    Script(page, stream("好"))
    ask(page, "问")
    ended(page)
    page.tap("#save")
    box = page.locator("dialog.question").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360
    with page.expect_download() as download:
        page.tap("dialog.question button[value=md]")
    assert Path(download.value.path()).read_text(encoding="utf-8").endswith("\n\n好\n")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_turn_of_a_markdown_file_runs_into_the_next(still):
    """Whatever texts hold, open fences above all: every turn's heading stands at the top level, in order."""
    draw = random.Random(0)
    dialogues = [["".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12))) + "x" for _ in range(6)] for _ in range(200)]
    wrong = still.evaluate(
        """async (dialogues) => {
          const { newConversation, addTurn } = await import("./page/conversation.js");
          const { asMarkdown } = await import("./page/saving.js");
          const { readBlocks } = await import("./page/blocks.js");
          return dialogues.filter(([asked, thought, said, given, result, end]) => {
            const one = newConversation(thought);
            addTurn(one, null, { role: "user", content: asked });
            const calls = [{ id: "1", name: "f", arguments: given }];
            addTurn(one, one.leaf, { role: "assistant", content: said, reasoning: thought, calls, model: "the model" });
            addTurn(one, one.leaf, { role: "tool", content: result, callId: "1", name: "f" });
            addTurn(one, one.leaf, { role: "assistant", content: "short", model: "the model" });
            addTurn(one, one.leaf, { role: "user", content: end });
            const headings = readBlocks(asMarkdown(one)).filter(({ type }) => type === "heading").map(({ text }) => text);
            const own = headings.filter((text) => /^(You|Answer · the model)$/.test(text)).join();
            return !/^You,(You,)*Answer · the model,(You,)*Answer · the model,You$/.test(own);
          });
        }""",
        dialogues,
    )
    assert wrong == []


def test_a_title_becomes_a_name_that_every_system_takes(still):
    titles = ["", 'a/b\\c:d*e?f"g<h>i|j', "..", " . ", "x\ny\x00", "天气" * 100, "😀" * 100, "问：好？"]
    names = still.evaluate(
        "async (titles) => { const { fileName } = await import('./page/saving.js'); return titles.map((one) => fileName(one, 'md')); }",
        titles,
    )
    for name in names:
        assert not set(name) & set('\\/:*?"<>|\n\x00') and not name.startswith((".", " ")) and len(name.encode()) < 330, name
    assert names[0] == names[2] == "Untitled.md" and names[5] == "天气" * 40 + ".md" and names[7] == "问：好？.md"
