// The list of conversations: find one, open it, give it another name, delete it.
import { asked } from "./asking.js";
import { iconButton, make } from "./dom.js";
import { t } from "./i18n.js";
import { matching } from "./search.js";
import { say } from "./status.js";

const FEW = 5; // conversations that are found by looking

export class Sidebar {
  #conversations = [];
  #renaming = false;

  /** field: where a reader says what to look for. actions: open(id), rename(id, title), remove(id). */
  constructor({ list, field, actions }) {
    Object.assign(this, { list, field, actions, current: null, running: new Set() });
    field.addEventListener("input", () => {
      this.#draw();
      if (field.value.trim()) say(t("found", { count: list.childElementCount }));
    });
  }

  /** current: the id of the open one; running: ids of those that are being answered. */
  show(conversations, { current, running }) {
    this.#conversations = conversations;
    Object.assign(this, { current, running });
    this.#draw();
  }

  #draw() {
    if (this.#renaming) return; // a name is being written; what has changed meanwhile is shown afterwards
    this.field.hidden = this.#conversations.length <= FEW && !this.field.value;
    this.list.replaceChildren(...matching(this.#conversations, this.field.value).map((one) => this.#entry(one)));
  }

  #entry({ id, title }) {
    const name = title || t("untitled");
    const dot = this.running.has(id) ? make("span", { class: "dot", role: "img", "aria-label": t("running") }) : null;
    const click = () => this.actions.open(id);
    const open = make(
      "button",
      { type: "button", class: "open", title: name, "aria-current": id === this.current && "page", on: { click } },
      dot,
      make("span", {}, name),
    );
    const item = make("li", {}, open);
    item.append(
      iconButton("pencil", `${t("rename")}: ${name}`, () => this.#rename(item, id, name)),
      iconButton("bin", `${t("remove")}: ${name}`, () => this.#remove(id, name)),
    );
    return item;
  }

  #rename(item, id, name) {
    const field = make("input", { value: name, "aria-label": t("rename") });
    const leave = (keep) => {
      if (!this.#renaming) return;
      this.#renaming = false;
      this.#draw();
      const given = field.value.trim();
      if (keep && given && given !== name) this.actions.rename(id, given);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) leave(true);
      if (event.key === "Escape") leave(false);
    });
    field.addEventListener("blur", () => leave(true));
    this.#renaming = true;
    item.replaceChildren(field);
    field.select();
  }

  async #remove(id, title) {
    if (await asked(t("removeAsk", { title }), [{ value: "yes", label: t("remove"), look: "main danger" }])) this.actions.remove(id);
  }
}
