// The page's words in the reader's language: as chosen, else as the browser says.
import { prefer, preference } from "./preferences.js";
import { WORDS } from "./words.js";

/** "zh" or "en". */
export function language() {
  return preference("language") ?? (navigator.languages.find((one) => /^(zh|en)/i.test(one)) ?? "en").slice(0, 2).toLowerCase();
}

/** A word or sentence; `{name}` in it is filled in. */
export function t(key, values = {}) {
  const words = WORDS[language()][key];
  if (words === undefined) throw new Error(`no words for '${key}'`);
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function switchLanguage() {
  prefer({ language: language() === "zh" ? "en" : "zh" });
}

/** Fill in what index.html leaves open: data-text, data-label (for listeners and hovers), data-hint (placeholders). */
export function speak(root = document) {
  document.documentElement.lang = language() === "zh" ? "zh-Hans" : "en";
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-hint]")) element.placeholder = t(element.dataset.hint);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
    if (element.matches("button")) element.title = t(element.dataset.label);
  }
}
