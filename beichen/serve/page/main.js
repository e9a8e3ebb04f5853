// The page put together: which conversation is open, which answers are on their way, and what each button does.
import { models } from "./api.js";
import { Composer } from "./composer.js";
import { addTurn, choose, newConversation } from "./conversation.js";
import { icon, make } from "./dom.js";
import { asksForKey, describe } from "./faults.js";
import { speak, switchLanguage, t } from "./i18n.js";
import { outcome } from "./message.js";
import { openPanel } from "./panel.js";
import { followTheme, onPreference, prefer, preference } from "./preferences.js";
import { requestOf, Run } from "./run.js";
import { saveConversation } from "./saving.js";
import { Sidebar } from "./sidebar.js";
import { say } from "./status.js";
import { conversations, forget, keep, onNews, openStore } from "./store.js";
import { Transcript } from "./transcript.js";

const KEEP_EVERY = 1000; // milliseconds, while an answer comes
const part = (id) => document.getElementById(id);
const runs = new Map(); // conversation id -> {run, conversation}: answers go on while another conversation is open
let current = newConversation(preference("system"));
let keyFault = null; // what the server has against the key, or against there being none

const transcript = new Transcript({
  element: part("transcript"),
  scroll: part("scroll"),
  latest: part("latest"),
  actions: {
    retry: (turn) => answer(turn.parent),
    edit: (turn, content) => answer(addTurn(current, turn.parent, { role: "user", content }).id),
    choose(turn) {
      choose(current, turn);
      keep(current);
      draw();
    },
    results(turn, texts) {
      const last = turn.calls.reduce(
        (parent, call, place) => addTurn(current, parent, { role: "tool", content: texts[place], callId: call.id, name: call.name }).id,
        turn.id,
      );
      answer(last);
    },
  },
});
const composer = new Composer({
  form: part("composer"),
  field: part("prompt"),
  send: part("send"),
  stop: part("stop"),
  onSend(text) {
    composer.clear();
    answer(addTurn(current, current.leaf, { role: "user", content: text }).id);
  },
  onStop: () => runs.get(current.id)?.run.stop(),
});

const sidebar = new Sidebar({
  list: part("conversations"),
  field: part("search"),
  actions: {
    open,
    async rename(id, title) {
      const renamed = await find(id);
      renamed.title = title;
      await keep(renamed);
      draw();
    },
    async remove(id) {
      runs.get(id)?.run.stop();
      runs.delete(id);
      await forget(id);
      if (id === current.id) open(null);
      else draw();
    },
  },
});

/** Ask for an answer to the turn `parent`. */
async function answer(parent) {
  const conversation = current;
  if (runs.has(conversation.id)) return;
  const request = requestOf(conversation, parent, part("model").value);
  const turn = addTurn(conversation, parent, { role: "assistant" });
  const run = new Run(turn, request);
  runs.set(conversation.id, { run, conversation });
  const wanted = () => runs.get(conversation.id)?.run === run; // until its conversation is deleted
  const keeper = setInterval(() => wanted() && keep(conversation), KEEP_EVERY);
  transcript.toEnd();
  say(t("answering"));
  await keep(conversation);
  draw();
  await run.read(() => transcript.grow(turn));
  clearInterval(keeper);
  if (!wanted()) return;
  runs.delete(conversation.id);
  await keep(conversation);
  draw();
  say(outcome(turn) || t("answered"));
  keyFault = asksForKey(turn.fault) ? turn.fault : null;
  if (keyFault) settings();
}

/** Everything as it stands now. */
async function draw({ fresh = false } = {}) {
  const running = runs.get(current.id);
  transcript.show(current, running?.run.turn.id ?? null, { fresh });
  composer.setBusy(Boolean(running));
  history.replaceState(null, "", current.turns.length ? `#c=${current.id}` : "#"); // so that a reload comes back to it
  part("title").textContent = current.title || t("newChat");
  document.title = `${current.title || t("newChat")} · ${t("brand")}`;
  part("save").hidden = !current.turns.length;
  const all = await conversations();
  sidebar.show(all, { current: current.id, running: new Set(runs.keys()) });
}

async function find(id) {
  if (id === current.id) return current;
  return runs.get(id)?.conversation ?? (await conversations()).find((one) => one.id === id);
}

/** Show a conversation; null, or one that is gone: a new one. */
async function open(id) {
  current = (id && (await find(id))) || newConversation(preference("system"));
  composer.show(current.id);
  showSidebar(false);
  await draw();
  transcript.toEnd();
  part("prompt").focus();
}

function settings() {
  openPanel(part("panel"), current, { keyFault, changed: () => current.turns.length && keep(current), keyed: meetModels });
}

/** Which models there are; the last one chosen stays chosen.  -> the fault as the page's words know it, if they cannot be asked for */
async function meetModels() {
  const select = part("model");
  try {
    const names = await models();
    select.replaceChildren(...names.map((name) => make("option", { selected: name === preference("model") }, name)));
    select.disabled = names.length < 2;
    keyFault = null;
    return null;
  } catch (thrown) {
    const fault = describe(thrown);
    keyFault = asksForKey(fault) ? fault : null;
    say(t(fault.key, fault));
    return fault;
  }
}

function showSidebar(shown) {
  document.body.classList.toggle("sidebar-shown", shown);
  part("menu").setAttribute("aria-expanded", shown);
  part("backdrop").hidden = !shown;
}

function showWords() {
  speak();
  part("theme-name").textContent = t(preference("theme") ?? "system");
}

function nextTheme() {
  const order = [null, "light", "dark"];
  prefer({ theme: order[(order.indexOf(preference("theme")) + 1) % order.length] });
}

for (const place of document.querySelectorAll("[data-icon]")) place.append(icon(place.dataset.icon));
part("new").addEventListener("click", () => open(null));
part("menu").addEventListener("click", () => showSidebar(!document.body.classList.contains("sidebar-shown")));
part("backdrop").addEventListener("click", () => showSidebar(false));
part("language").addEventListener("click", switchLanguage);
part("theme").addEventListener("click", nextTheme);
part("save").addEventListener("click", () => saveConversation(current));
part("settings").addEventListener("click", settings);
part("model").addEventListener("change", () => prefer({ model: part("model").value }));
document.addEventListener("keydown", (event) => event.key === "Escape" && showSidebar(false));
onPreference((changes) => {
  if (!("language" in changes || "theme" in changes)) return;
  showWords();
  draw({ fresh: true });
});
onNews(async (id) => {
  if (id === current.id && !runs.has(id)) current = (await conversations()).find((one) => one.id === id) ?? current;
  draw();
});

const lasts = await openStore();
followTheme();
showWords();
await open(new URLSearchParams(location.hash.slice(1)).get("c"));
if (asksForKey(await meetModels())) settings();
if (!lasts) say(t("unkept"));
document.body.dataset.ready = "";
