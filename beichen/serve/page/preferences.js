// What a reader has chosen, kept in this browser: language, theme, sampling, and the API key if it shall be remembered.

export const place = `beichen ${new URL(".", document.baseURI).pathname}`; // servers behind one address keep apart
const EMPTY = { language: null, theme: null, model: null, system: "", sampling: {}, thinking: null, key: null };
const listeners = new Set();
let chosen = { ...EMPTY, ...read(localStorage), ...read(sessionStorage) };

function read(storage) {
  try {
    return JSON.parse(storage.getItem(place)) ?? {};
  } catch {
    return {}; // written by something else: as if nothing had been chosen
  }
}

export function preference(name) {
  return chosen[name];
}

/** Remember a choice and tell everybody who listens. */
export function prefer(changes) {
  chosen = { ...chosen, ...changes };
  const { key, ...others } = chosen;
  localStorage.setItem(place, JSON.stringify(read(localStorage).key === key ? chosen : others));
  for (const listener of listeners) listener(changes);
}

/** The key that a server asks for: for this tab alone, or remembered until it is cleared. */
export function keepKey(key, { remember }) {
  chosen = { ...chosen, key: key || null };
  const { key: _, ...others } = chosen;
  localStorage.setItem(place, JSON.stringify(remember && key ? chosen : others));
  if (remember || !key) sessionStorage.removeItem(place);
  else sessionStorage.setItem(place, JSON.stringify({ key }));
  for (const listener of listeners) listener({ key });
}

export function onPreference(listener) {
  listeners.add(listener);
}

/** "light" or "dark", as chosen or as the system says. */
export function theme() {
  return chosen.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** Colours follow the choice, and the system as long as nothing was chosen. */
export function followTheme() {
  const show = () => {
    document.documentElement.dataset.theme = theme();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  onPreference((changes) => "theme" in changes && show());
  show();
}
