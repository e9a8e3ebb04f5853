// A conversation is a tree of turns: an edit or another try is a sibling, so that nothing that was said is lost.
// turn: {id, parent, role, content, reasoning, calls, ...}; the way from the root to `leaf` is what is shown and sent.

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(system) {
  return { id: newId(), title: "", system, tools: "", changed: Date.now(), turns: [], leaf: null };
}

/** A new turn after `parent` (a turn's id, null: at the beginning), which is now the last of what is shown. */
export function addTurn(conversation, parent, turn) {
  const added = { id: newId(), parent, content: "", reasoning: "", calls: [], ...turn };
  conversation.turns.push(added);
  conversation.leaf = added.id;
  conversation.changed = Date.now();
  if (!conversation.title && turn.role === "user") conversation.title = [...turn.content.trim().split("\n")[0]].slice(0, 60).join("");
  return added;
}

function turnOf(conversation, id) {
  return conversation.turns.find((turn) => turn.id === id) ?? null;
}

/** The turns from the beginning to `last`. */
export function path(conversation, last = conversation.leaf) {
  const turns = [];
  for (let turn = turnOf(conversation, last); turn; turn = turnOf(conversation, turn.parent)) turns.unshift(turn);
  return turns;
}

/** The other ways at the same place, in the order of their making. */
export function versions(conversation, turn) {
  return conversation.turns.filter((one) => one.parent === turn.parent && (one.role === "tool") === (turn.role === "tool"));
}

/** Show the way through `turn`, as far as it was last followed. */
export function choose(conversation, turn) {
  let last = turn;
  for (let next = last; next; next = conversation.turns.findLast((one) => one.parent === last.id)) last = next;
  conversation.leaf = last.id;
}

/** The tools that its model may call; null: none were given. */
export function toolsOf(conversation) {
  return conversation.tools.trim() ? JSON.parse(conversation.tools) : null;
}

/** The turns as OpenAI's interface takes them. */
export function asMessages(conversation, last) {
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  return [...system, ...path(conversation, last).map(asMessage)];
}

function asMessage({ role, content, reasoning, calls, callId }) {
  if (role === "tool") return { role, content, tool_call_id: callId };
  if (role === "user") return { role, content };
  const told = calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  return { role, content, ...(reasoning && { reasoning_content: reasoning }), ...(told.length && { tool_calls: told }) };
}
