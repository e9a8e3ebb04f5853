// The field where messages are written: it grows with its text, sends by Enter, and is quiet while an input method is at work.
import { sends } from "./message.js";

const TALLEST = 0.4; // of the window

export class Composer {
  #drafts = new Map(); // conversation id -> what was being written
  #place = null;

  constructor({ form, field, send, stop, onSend, onStop }) {
    Object.assign(this, { field, send, stop });
    const submit = (event) => {
      event.preventDefault();
      if (field.value.trim() && !this.busy) onSend(field.value.trim());
    };
    form.addEventListener("submit", submit);
    field.addEventListener("keydown", (event) => {
      if (sends(event)) submit(event);
      if (event.key === "Escape" && !event.isComposing && this.busy) onStop();
    });
    field.addEventListener("input", () => this.#fit());
    stop.addEventListener("click", onStop);
    this.setBusy(false);
  }

  /** While an answer comes, the button stops it. */
  setBusy(busy) {
    const held = document.activeElement === this.send || document.activeElement === this.stop;
    this.busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    if (held) this.field.focus();
    this.#fit();
  }

  /** Each conversation keeps its own unsent text. */
  show(id) {
    this.#drafts.set(this.#place, this.field.value);
    this.#place = id;
    this.field.value = this.#drafts.get(id) ?? "";
    this.#fit();
  }

  clear() {
    this.field.value = "";
    this.#fit();
  }

  #fit() {
    this.send.disabled = !this.field.value.trim();
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * TALLEST)}px`;
  }
}
