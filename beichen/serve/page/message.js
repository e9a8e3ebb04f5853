// One turn as the reader sees it: thoughts and calls folded, the text, what became of it, and what can be done with it.
import { copyText } from "./copying.js";
import { iconButton, make } from "./dom.js";
import { t } from "./i18n.js";
import { Prose } from "./markdown.js";

const FLOW = 0.3; // seconds from which on the pieces of an answer tell its speed: a quick one comes in two at once

export class MessageView {
  #prose = new Prose();
  #thoughts = make("pre", { class: "thoughts" });
  #fold = make("details", { class: "fold", hidden: true }, make("summary"), this.#thoughts);
  #calls = make("div", { class: "calls" });
  #note = make("p", { class: "note", hidden: true });
  #foot = make("footer");
  #busy = false;

  /** actions: what a reader can ask for: retry(turn), edit(turn, text), choose(turn), results(turn, texts). */
  constructor(turn, actions) {
    Object.assign(this, { turn, actions });
    const title = make("h2", { class: "unseen" }, turn.role === "user" ? t("you") : turn.role === "tool" ? t("toolResult") : t("answer"));
    this.element = make("article", { class: `turn ${turn.role}`, "data-turn": turn.id }, title);
    if (turn.role === "assistant") this.element.append(this.#fold, this.#prose.element, this.#calls, this.#note, this.#foot);
    else if (turn.role === "tool")
      this.element.append(
        make("details", { class: "fold" }, make("summary", {}, t("resultOf", { name: turn.name })), make("pre", {}, turn.content)),
      );
    else this.element.append(make("div", { class: "bubble" }, turn.content), this.#foot);
  }

  /** state: {running, busy: whether an answer comes to this turn or another, last, versions: its siblings} */
  show(state) {
    const { turn } = this;
    this.#busy = state.busy;
    this.element.classList.toggle("running", state.running);
    this.element.setAttribute("aria-busy", state.running);
    if (turn.role === "assistant") {
      this.#showThoughts(state.running);
      this.#prose.show(turn.content);
      this.#showCalls(state);
      this.#showNote(state.running);
    }
    if (turn.role !== "tool") this.#showFoot(state);
  }

  #showThoughts(running) {
    const { reasoning, content } = this.turn;
    this.#fold.hidden = !reasoning;
    this.#fold.firstChild.textContent = running && !content ? t("thinkingNow") : t("thinking");
    this.#thoughts.textContent = reasoning;
  }

  #showCalls({ running, last }) {
    const { turn } = this;
    if (this.#calls.querySelector("form") && last) return; // results are being written
    this.#calls.replaceChildren(
      ...turn.calls.map((call) => {
        const name = make("summary", {}, t(running ? "calling" : "call", { name: call.name }));
        return make("details", { class: "fold" }, name, make("pre", {}, readable(call.arguments)));
      }),
    );
    if (turn.finish === "tool_calls" && last && !running) this.#calls.append(this.#resultsForm());
  }

  #resultsForm() {
    const fields = this.turn.calls.map((call) =>
      make("textarea", { rows: 2, "aria-label": t("resultOf", { name: call.name }), placeholder: t("resultOf", { name: call.name }) }),
    );
    const submit = (event) => {
      event.preventDefault();
      this.actions.results(
        this.turn,
        fields.map((field) => field.value),
      );
    };
    return make("form", { class: "results", on: { submit } }, fields, make("button", { class: "main" }, t("sendResults")));
  }

  #showNote(running) {
    const words = running ? "" : outcome(this.turn);
    this.#note.hidden = !words;
    this.#note.classList.toggle("fault", Boolean(this.turn.fault));
    if (this.#note.textContent !== words) this.#note.textContent = words;
  }

  #showFoot({ running, versions }) {
    const { turn, actions } = this;
    if (running) {
      this.#foot.replaceChildren(make("span", { class: "figures" }, turn.seconds ? t("figuresNow", figures(turn)) : ""));
      return;
    }
    const copy = iconButton("copy", t("copy"), () => copyText(turn.content, copy));
    const own =
      turn.role === "user"
        ? iconButton("pencil", t("edit"), () => this.#edit())
        : iconButton("redo", t("retry"), () => actions.retry(turn));
    own.disabled = this.#busy;
    const told =
      turn.tokens && turn.seconds
        ? make("span", { class: "figures", title: t("figuresMore", figures(turn)) }, t("figures", figures(turn)))
        : null;
    this.#foot.replaceChildren(...[copy, own, this.#switch(versions), told].filter(Boolean));
  }

  #switch(versions) {
    if (versions.length < 2) return null;
    const place = versions.indexOf(this.turn);
    const step = (name, label, by) =>
      iconButton(name, t(label), () => this.actions.choose(versions[place + by]), { disabled: !versions[place + by] });
    const told = make(
      "span",
      { "aria-label": t("version", { place: place + 1, count: versions.length }) },
      `${place + 1}/${versions.length}`,
    );
    return make("span", { class: "versions" }, step("left", "previous", -1), told, step("right", "next", 1));
  }

  #edit() {
    const field = make("textarea", { "aria-label": t("edit"), rows: Math.min(12, this.turn.content.split("\n").length + 1) });
    field.value = this.turn.content;
    const bubble = this.element.querySelector(".bubble");
    const done = () => form.replaceWith(bubble);
    const submit = (event) => {
      event.preventDefault();
      if (!field.value.trim() || this.#busy) return;
      done();
      this.actions.edit(this.turn, field.value);
    };
    const cancel = make("button", { type: "button", on: { click: done } }, t("cancel"));
    const form = make(
      "form",
      { class: "edit", on: { submit } },
      field,
      make("div", {}, cancel, make("button", { class: "main" }, t("resend"))),
    );
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") done();
      if (sends(event)) submit(event);
    });
    bubble.replaceWith(form);
    field.focus();
  }
}

/** What became of an answer that is no longer on its way; "": it is complete. */
export function outcome({ finish, fault, open }) {
  if (fault) return t(fault.key, fault);
  if (finish === "length") return t("cut");
  if (finish === "stopped") return t("stopped");
  return open ? t("lost") : "";
}

/** Whether a key sends: Enter alone, and never while an input method is still choosing characters. */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

/** Tokens are known at the end alone, for a piece of a stream may hold several; letters at any time. */
function figures({ tokens, first, seconds, content, reasoning }) {
  const flowing = seconds - first > FLOW && tokens > 1;
  const speed = flowing ? (tokens - 1) / (seconds - first) : tokens / seconds;
  const letters = [...reasoning, ...content].length;
  return {
    letters,
    tokens,
    speed: speed < 10 ? speed.toFixed(1) : Math.round(speed),
    first: first.toFixed(2),
    seconds: seconds.toFixed(1),
  };
}

/** Arguments with line breaks, once they are whole. */
function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // still on its way, or not JSON: as the model wrote it
  }
}
