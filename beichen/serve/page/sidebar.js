// The list of conversations: open one, give it another name, delete it.
import { iconButton, make } from "./dom.js";
import { t } from "./i18n.js";

/** Fill `list` with conversations. actions: open(id), rename(id, title), remove(id). running: ids that are being answered. */
export function showConversations(list, conversations, { current, running, actions }) {
  list.replaceChildren(...conversations.map((conversation) => entry(conversation, { current, running, actions })));
}

function entry({ id, title }, { current, running, actions }) {
  const name = title || t("untitled");
  const dot = running.has(id) ? make("span", { class: "dot", role: "img", "aria-label": t("running") }) : null;
  const open = make(
    "button",
    { type: "button", class: "open", title: name, "aria-current": id === current && "page", on: { click: () => actions.open(id) } },
    dot,
    make("span", {}, name),
  );
  const item = make("li", {}, open);
  const rename = iconButton("pencil", `${t("rename")}: ${name}`, () => renameIn(item, name, (other) => actions.rename(id, other)));
  const remove = iconButton(
    "bin",
    `${t("remove")}: ${name}`,
    async () => (await confirmed(t("removeAsk", { title: name }), t("remove"))) && actions.remove(id),
  );
  item.append(rename, remove);
  return item;
}

function renameIn(item, name, done) {
  const field = make("input", { value: name, "aria-label": t("rename") });
  const children = [...item.childNodes];
  const leave = (keep) => {
    if (!field.isConnected) return;
    item.replaceChildren(...children);
    if (keep && field.value.trim() && field.value !== name) done(field.value.trim());
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) leave(true);
    if (event.key === "Escape") leave(false);
  });
  field.addEventListener("blur", () => leave(true));
  item.replaceChildren(field);
  field.select();
}

/** A question that is answered by yes or by anything else. */
function confirmed(question, yes) {
  const dialog = make(
    "dialog",
    { class: "question" },
    make(
      "form",
      { method: "dialog" },
      make("p", {}, question),
      make(
        "div",
        { class: "row" },
        make("button", { value: "no" }, t("cancel")),
        make("button", { value: "yes", class: "main danger" }, yes),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
