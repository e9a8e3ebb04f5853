// The settings: system prompt and tools of this conversation, sampling, thinking, the API key. What is typed holds at once.
import { iconButton, make } from "./dom.js";
import { t } from "./i18n.js";
import { keepKey, prefer, preference } from "./preferences.js";

const NUMBERS = [
  // name, least, most, step
  ["temperature", 0, 2, 0.1],
  ["top_p", 0.01, 1, 0.05],
  ["top_k", 0, 100000, 1],
  ["min_p", 0, 1, 0.01],
  ["max_tokens", 1, 1000000, 1],
  ["seed", 0, 2 ** 31, 1],
  ["repetition_penalty", 0.5, 2, 0.05],
  ["presence_penalty", -2, 2, 0.1],
  ["frequency_penalty", -2, 2, 0.1],
];
const KEY_FAULTS = { noKey: "keyNeeded", wrongKey: "keyRefused" }; // as they are told beside the field

/**
 * Open the dialog for a conversation; at its key, if the server refuses that (keyFault). changed: called when a part of the conversation
 * itself has changed; keyed: when the key has, to say what the server has against it.
 */
export function openPanel(dialog, conversation, { keyFault, changed, keyed }) {
  const close = iconButton("close", t("close"), () => dialog.close());
  dialog.replaceChildren(
    make("div", { class: "panel-head" }, make("h2", {}, t("settings")), close),
    area("system", t("systemPrompt"), t("systemHelp"), conversation.system, (text) => {
      conversation.system = text;
      prefer({ system: text });
      changed();
    }),
    make(
      "fieldset",
      {},
      make("legend", {}, t("sampling")),
      make("p", { class: "help" }, t("samplingHelp")),
      make("div", { class: "numbers" }, NUMBERS.map(numberField)),
      stopField(),
      thinkingField(),
    ),
    area("tools", t("tools"), t("toolsHelp"), conversation.tools, (text, field) => {
      const fault = faultOfTools(text);
      field.setCustomValidity(fault && t("toolsWrong", { words: fault }));
      field.reportValidity();
      if (!fault) conversation.tools = text;
      changed();
    }),
    ...keyFields(keyFault, keyed),
  );
  dialog.showModal();
  if (keyFault) toKey(dialog.querySelector("#set-key"));
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close(); // beside the panel
  };
}

function labelled(id, label, help, field) {
  return make(
    "div",
    { class: "field" },
    make("label", { for: id }, label),
    field,
    help ? make("p", { class: "help", id: `${id}-help` }, help) : null,
  );
}

function area(name, label, help, value, changed) {
  const id = `set-${name}`;
  const field = make("textarea", {
    id,
    rows: 3,
    "aria-describedby": `${id}-help`,
    spellcheck: "false",
    on: { change: () => changed(field.value, field) },
  });
  field.value = value;
  return labelled(id, label, help, field);
}

function numberField([name, least, most, step]) {
  const id = `set-${name}`;
  const change = () => {
    const given = field.value === "" && !field.validity.badInput ? null : Number(field.value);
    const wrong = given !== null && !(given >= least && given <= most && !field.validity.badInput && (step < 1 || Number.isInteger(given)));
    field.setCustomValidity(wrong ? t("outside", { least, most }) : "");
    field.reportValidity();
    if (!wrong) choose({ [name]: given });
  };
  const field = make("input", {
    id,
    type: "number",
    inputmode: "decimal",
    step,
    placeholder: t("auto"),
    value: preference("sampling")[name],
    "aria-describedby": `${id}-help`,
    on: { change },
  });
  return labelled(id, t(name), t(`${name}Help`), field);
}

function stopField() {
  return area("stop", t("stopTexts"), t("stopTextsHelp"), (preference("sampling").stop ?? []).join("\n"), (text) => {
    const stops = text.split("\n").filter(Boolean);
    choose({ stop: stops.length ? stops : null });
  });
}

/** Sampling as it goes to the server: what is null is left out, so that the model's own default holds. */
function choose(changes) {
  const all = { ...preference("sampling"), ...changes };
  prefer({ sampling: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null)) });
}

function thinkingField() {
  const choices = [
    ["thinkAuto", null],
    ["thinkOn", true],
    ["thinkOff", false],
  ];
  const change = () => prefer({ thinking: choices[field.selectedIndex][1] });
  const field = make(
    "select",
    { id: "set-thinking", on: { change } },
    choices.map(([key, value]) => make("option", { selected: preference("thinking") === value }, t(key))),
  );
  return labelled("set-thinking", t("think"), null, field);
}

function keyFields(keyFault, keyed) {
  const told = make("p", { class: "told", id: "set-key-told", role: "alert", hidden: true });
  const tell = (fault) => {
    const taken = key.value.trim() ? t("keyTaken") : "";
    told.textContent = fault ? t(KEY_FAULTS[fault.key] ?? fault.key, fault) : taken;
    told.hidden = !told.textContent;
    told.classList.toggle("fault", Boolean(fault));
  };
  const save = async () => {
    const given = key.value.trim();
    keepKey(given, { remember: remember.checked });
    const fault = await keyed();
    if (given === key.value.trim()) tell(fault); // else another is being typed by now
  };
  const key = make("input", {
    id: "set-key",
    type: "password",
    autocomplete: "off",
    value: preference("key"),
    "aria-describedby": "set-key-told set-key-help",
    on: { change: save },
  });
  const remember = make("input", { id: "set-remember", type: "checkbox", on: { change: save } });
  const row = make("div", { class: "check" }, remember, make("label", { for: "set-remember" }, t("rememberKey")));
  if (keyFault) tell(keyFault);
  return [told, labelled("set-key", t("key"), t("keyHelp"), key), row];
}

/** Show the field with what is said above it, ready to be filled in. */
function toKey(field) {
  field.scrollIntoView({ block: "center" });
  field.select();
  field.focus();
}

/** What is wrong with a text as a list of tools; "": nothing. */
function faultOfTools(text) {
  try {
    return !text.trim() || Array.isArray(JSON.parse(text)) ? "" : "[...]";
  } catch (fault) {
    return fault.message;
  }
}
