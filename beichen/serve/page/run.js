// One answer on its way: a request goes out, chunks are laid into the turn as they come, and how it ended is written down.
import { chat, countTokens } from "./api.js";
import { asMessages, toolsOf } from "./conversation.js";
import { describe } from "./faults.js";
import { preference } from "./preferences.js";

/** What the server is asked: the turns up to `parent`, and whatever of sampling was chosen. */
export function requestOf(conversation, parent, model) {
  const thinking = preference("thinking");
  const tools = toolsOf(conversation);
  return {
    model,
    messages: asMessages(conversation, parent),
    ...preference("sampling"),
    ...(tools && { tools }),
    ...(thinking !== null && { chat_template_kwargs: { enable_thinking: thinking } }),
  };
}

export class Run {
  #abort = new AbortController();
  #begun = performance.now();
  #first = null;

  constructor(turn, request) {
    Object.assign(this, { turn, request });
    Object.assign(turn, { open: true, finish: null, fault: null, model: request.model, tokens: null });
  }

  /** Read to the end; `changed` is called after each chunk. Faults become part of the turn, where the reader sees them. */
  async read(changed) {
    const { turn } = this;
    try {
      for await (const chunk of chat(this.request, { signal: this.#abort.signal })) {
        this.#add(chunk);
        changed();
      }
      if (turn.finish === null) throw new TypeError("the stream ended without a reason");
    } catch (fault) {
      if (fault.name === "AbortError") turn.finish = "stopped";
      else Object.assign(turn, { finish: "fault", fault: describe(fault, { begun: Boolean(turn.content || turn.reasoning) }) });
    }
    turn.open = false;
    if (turn.finish === "stopped" && turn.content) {
      turn.tokens = await countTokens(turn.model, turn.reasoning + turn.content).catch(() => null); // then it is not told
    }
    changed();
  }

  stop() {
    this.#abort.abort();
  }

  #add({ choices, usage }) {
    const { turn } = this;
    if (usage) turn.tokens = usage.completion_tokens;
    for (const { delta, finish_reason: reason } of choices) {
      const said = delta.content || delta.reasoning_content || delta.tool_calls;
      if (said) this.#first ??= performance.now();
      turn.content += delta.content ?? "";
      turn.reasoning += delta.reasoning_content ?? "";
      for (const call of delta.tool_calls ?? []) {
        turn.calls[call.index] ??= { id: call.id, name: "", arguments: "" };
        turn.calls[call.index].name += call.function.name ?? "";
        turn.calls[call.index].arguments += call.function.arguments ?? "";
      }
      turn.finish = reason ?? turn.finish;
    }
    if (this.#first !== null) {
      turn.first = (this.#first - this.#begun) / 1000;
      turn.seconds = (performance.now() - this.#begun) / 1000;
    }
  }
}
