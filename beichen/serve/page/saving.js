// A conversation as a file of the reader's own, along the way that is shown: Markdown to read, or JSON with OpenAI's messages.
import { asked } from "./asking.js";
import { readBlocks } from "./blocks.js";
import { asMessages, path, toolsOf } from "./conversation.js";
import { make } from "./dom.js";
import { t } from "./i18n.js";

const FORMS = { md: { type: "text/markdown", write: asMarkdown }, json: { type: "application/json", write: asJson } };
const LONGEST_NAME = 80; // letters
const HELD = 60000; // milliseconds for which the browser may still read the file

/** Ask which form it shall have, and hand it to the browser's downloads. */
export async function saveConversation(conversation) {
  const ending = await asked(t("saveAsk"), [
    { value: "json", label: t("saveJson") },
    { value: "md", label: t("saveMarkdown"), look: "main" },
  ]);
  if (!ending) return;
  const { type, write } = FORMS[ending];
  const href = URL.createObjectURL(new Blob([write(conversation)], { type: `${type};charset=utf-8` }));
  make("a", { href, download: fileName(conversation.title, ending) }).click();
  setTimeout(() => URL.revokeObjectURL(href), HELD);
}

/** A title as a file may be called on any system. */
export function fileName(title, ending) {
  const safe = title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, "_").replace(/^[.\s]+|[.\s]+$/g, "");
  return `${[...(safe || t("untitled"))].slice(0, LONGEST_NAME).join("")}.${ending}`;
}

/** The messages and tools as the server takes them, and as `beichen data` reads them; answers that never came are left out. */
export function asJson(conversation) {
  const said = ({ role, content, reasoning_content: thought, tool_calls: calls }) => role !== "assistant" || content || thought || calls;
  const [messages, tools] = [asMessages(conversation).filter(said), toolsOf(conversation)];
  return `${JSON.stringify({ messages, ...(tools && { tools }) }, null, 2)}\n`;
}

/** What readers wrote as quotes, answers as they are, and whatever the page folds up in fences: nothing can run into its neighbour. */
export function asMarkdown(conversation) {
  const system = conversation.system.trim() ? [`**${t("systemPrompt")}**`, fenced(conversation.system)] : [];
  const parts = [`# ${conversation.title || t("untitled")}`, ...system, ...path(conversation).flatMap(turnParts)];
  return `${parts.join("\n\n")}\n`;
}

function turnParts({ role, content, reasoning, calls, name, model }) {
  if (role === "user") return [`## ${t("you")}`, content.replace(/^/gm, "> ")];
  if (role === "tool") return [`**${t("resultOf", { name })}**`, fenced(content)];
  const said = [
    ...(reasoning ? [`**${t("thinking")}**`, fenced(reasoning)] : []),
    ...(content ? [closed(content)] : []),
    ...calls.flatMap((call) => [`**${t("call", { name: call.name })}**`, fenced(call.arguments, "json")]),
  ];
  return said.length ? [`## ${t("answer")} · ${model}`, ...said] : [];
}

/** A text in a fence that is longer than any within it. */
function fenced(text, language = "") {
  const marks = "`".repeat(Math.max(3, ...(text.match(/`+/g) ?? []).map((run) => run.length + 1)));
  return `${marks}${language}\n${text}\n${marks}`;
}

/** An answer that was cut off within code has its fence closed, for the rest of the file is no code. */
function closed(text) {
  const last = readBlocks(text).at(-1);
  return last?.type === "code" && !last.closed ? `${text}\n${/`{3,}|~{3,}/.exec(last.raw)[0]}` : text;
}
