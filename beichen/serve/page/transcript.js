// The turns of the conversation that is open, from the first to the last; it follows the end while the reader is there.
import { path, versions } from "./conversation.js";
import { icon, make } from "./dom.js";
import { t } from "./i18n.js";
import { MessageView } from "./message.js";

const NEAR = 60; // pixels from the end that count as being there

export class Transcript {
  #views = new Map();
  #following = true;
  #due = false;

  constructor({ element, scroll, latest, actions }) {
    Object.assign(this, { element, scroll, latest, actions });
    scroll.addEventListener(
      "scroll",
      () => {
        this.#following = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
        latest.hidden = this.#following;
      },
      { passive: true },
    );
    latest.addEventListener("click", () => this.toEnd());
  }

  /** Show a conversation; `running` is the id of the turn that is being answered, or null. fresh: make everything anew. */
  show(conversation, running, { fresh = false } = {}) {
    const turns = path(conversation);
    const known = fresh ? new Map() : this.#views;
    this.#views = new Map(
      turns.map((turn) => [turn.id, known.get(turn.id)?.turn === turn ? known.get(turn.id) : new MessageView(turn, this.actions)]),
    );
    for (const turn of turns) {
      const state = { running: turn.id === running, busy: running !== null, last: turn === turns.at(-1) };
      this.#views.get(turn.id).show({ ...state, versions: versions(conversation, turn) });
    }
    this.element.replaceChildren(...(turns.length ? [...this.#views.values()].map((view) => view.element) : [welcome()]));
    this.#follow();
  }

  /** The answer on its way has grown: drawn once a frame, however many pieces come. */
  grow(turn) {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      const view = this.#views.get(turn.id);
      if (!view?.turn.open) return; // another conversation is shown by now, or the answer has ended
      view.show({ running: true, busy: true, last: true, versions: [] });
      this.#follow();
    });
  }

  toEnd() {
    this.#following = true;
    this.latest.hidden = true;
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  #follow() {
    if (this.#following) this.toEnd();
  }
}

function welcome() {
  return make("div", { class: "welcome" }, icon("star"), make("p", { class: "hello" }, t("hello")), make("p", {}, t("helloMore")));
}
