"""The page's small parts by their laws: streams cut anywhere, conversations as trees, colours of code that lose no letter."""

from __future__ import annotations

import random

from tests.serve.page.scripted import stream

READ_STREAM = """async ({ bytes, cuts }) => {
  const { events } = await import("./page/stream.js");
  const told = [];
  for (const places of cuts) {
    const parts = [0, ...places].map((from, at) => new Uint8Array(bytes.slice(from, places[at] ?? bytes.length)));
    const body = new ReadableStream({ start(controller) { parts.forEach((part) => controller.enqueue(part)); controller.close(); } });
    let found = [];
    try {
      for await (const event of events(body)) found.push(event);
    } catch (fault) {
      found.push(fault.name);
    }
    told.push(JSON.stringify(found));
  }
  return [...new Set(told)].map((one) => JSON.parse(one));
}"""


def cuts_of(length: int, draw: random.Random) -> list[list[int]]:
    """Everywhere once, at every byte, and at random."""
    return [
        *([at] for at in range(1, length)),
        list(range(1, length)),
        *(sorted(draw.sample(range(1, length), 9)) for _ in range(200)),
    ]


def test_a_stream_says_the_same_however_its_bytes_are_cut(still):
    body = stream("你好，😀 世界", thought="想")
    for text in (body, body.replace("\n", "\r\n"), ": ping\n\n" + body):
        sent = list(text.encode())
        (found,) = still.evaluate(READ_STREAM, {"bytes": sent, "cuts": cuts_of(len(sent), random.Random(0))[:600]})
        assert "".join(choice["delta"].get("content", "") for event in found for choice in event["choices"]) == "你好，😀 世界"
        assert found[-1]["usage"]["completion_tokens"] == 42


def test_a_stream_that_ends_early_is_a_fault(still):
    sent = list(stream("你好", cut=True).encode())
    (found,) = still.evaluate(READ_STREAM, {"bytes": sent, "cuts": [[], [5]]})
    assert found[-1] == "TypeError" and len(found) > 1


def test_a_conversation_is_a_tree_that_loses_nothing(still):
    """After random edits, new tries and choices: every turn is on some way, and each way goes from the root down by parents."""
    faults = still.evaluate("""async () => {
      const { newConversation, addTurn, choose, path, versions, asMessages } = await import("./page/conversation.js");
      const faults = [];
      for (let seed = 1; seed < 60; seed += 1) {
        let state = seed;
        const draw = (count) => (state = (state * 48271) % 2147483647) % count;
        const conversation = newConversation("system");
        for (let step = 0; step < 30; step += 1) {
          const way = path(conversation);
          const turn = way[draw(way.length || 1)];
          if (turn && draw(3) === 0) choose(conversation, versions(conversation, turn)[draw(versions(conversation, turn).length)]);
          else if (turn && draw(3) === 0) addTurn(conversation, turn.parent, { role: turn.role, content: `${step}` });
          else addTurn(conversation, conversation.leaf, { role: way.length % 2 ? "assistant" : "user", content: `${step}` });
          const now = path(conversation);
          if (now.some((one, at) => one.parent !== (now[at - 1]?.id ?? null))) faults.push("parents");
          if (asMessages(conversation).length !== now.length + 1) faults.push("messages");
          const roles = asMessages(conversation).slice(1).map((message) => message.role);
          if (roles.some((role, at) => role !== (at % 2 ? "assistant" : "user"))) faults.push("roles");
        }
        for (const turn of conversation.turns) {
          choose(conversation, turn);
          if (!path(conversation).includes(turn)) faults.push("lost");
        }
      }
      return faults;
    }""")
    assert faults == []


def test_every_fault_that_a_reader_may_meet_is_told_in_the_page_s_languages(still):
    faults = [
        (400, "context_length_exceeded"), (401, "invalid_api_key"), (404, "model_not_found"), (408, "body_timeout"),
        (413, "body_too_large"), (429, "overloaded"), (429, "queue_timeout"), (500, "internal_error"), (500, "engine_failed"),
        (503, "shutting_down"), (504, "timeout"), (401, None), (429, None), (400, "invalid_value"), (500, "constructor"),
    ]  # fmt: skip
    told = still.evaluate(
        """async (faults) => {
          const [{ Fault }, { describe }] = await Promise.all([import("./page/api.js"), import("./page/faults.js")]);
          const { WORDS } = await import("./page/words.js");
          const keys = faults.map(([status, code]) => describe(new Fault("the server's words", { status, code })).key);
          return keys.map((key) => Object.values(WORDS).map((words) => words[key]));
        }""",
        faults,
    )
    assert all(len(words) == 2 and "{words}" not in "".join(words) for words in told[:-2]), told
    assert all("{words}" in words for both in told[-2:] for words in both)  # what nobody has words for is told in the server's


def test_coloured_code_is_the_code(still):
    draw = random.Random(0)
    pieces = [
        "def ",
        "x",
        " ",
        "\n",
        '"',
        "'",
        "`",
        '"""',
        "#",
        "//",
        "/*",
        "*/",
        "--",
        "<!--",
        "0x1f",
        "1.5e3",
        "\\",
        "中文",
        "class",
        "<b>",
        "$",
    ]
    codes = ["".join(draw.choice(pieces) for _ in range(draw.randint(0, 40))) for _ in range(300)]
    wrong = still.evaluate(
        """async (codes) => {
          const { coloured } = await import("./page/highlight.js");
          const languages = ["python", "JS", "c++", "java", "go", "rust", "bash", "sql", "yaml", "json", "html", "", "constructor"];
          return codes.filter((code) => languages.some((one) => coloured(code, one).map(([, part]) => part).join("") !== code));
        }""",
        codes,
    )
    assert wrong == []
    kinds = still.evaluate("""async () => (await import("./page/highlight.js")).coloured("def f(): # 注\\n  return '1'", "python")""")
    assert [kind for kind, _ in kinds if kind] == ["word", "comment", "word", "string"]
