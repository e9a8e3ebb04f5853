// The clipboard, also where the page came without TLS and the browser therefore hides its newer interface.
import { icon, make } from "./dom.js";
import { say } from "./status.js";
import { t } from "./i18n.js";

/** Copy a text; the button that was pressed shows that it was done. */
export async function copyText(text, button) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copyBySelection(text);
  button.replaceChildren(icon("check"));
  say(t("copied"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1500);
}

function copyBySelection(text) {
  const field = make("textarea", { class: "unseen", "aria-hidden": "true", tabindex: -1 });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
