// A question in front of the page, and which of a few answers the reader gave.
import { make } from "./dom.js";
import { t } from "./i18n.js";

/** answers: [{value, label, look}], look being a class or nothing.  -> the value of the one that was pressed; "": none was */
export function asked(question, answers) {
  const cancel = make("button", { value: "" }, t("cancel"));
  const buttons = answers.map(({ value, label, look }) => make("button", { value, class: look }, label));
  const form = make("form", { method: "dialog" }, make("p", {}, question), make("div", { class: "row" }, cancel, buttons));
  const dialog = make("dialog", { class: "question" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}
