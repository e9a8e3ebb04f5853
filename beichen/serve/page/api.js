// The server's own OpenAI interface, as this page uses it. Addresses are relative, so that a proxy may put the page anywhere.
import { preference } from "./preferences.js";
import { events } from "./stream.js";

/** What the server refused, or could not be reached for (status 0). */
export class Fault extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function call(path, { body, signal } = {}) {
  const key = String.fromCharCode(...new TextEncoder().encode(preference("key") ?? "")); // a header holds bytes
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  const address = new URL(path, document.baseURI);
  const method = body ? "POST" : "GET";
  const answer = await fetch(address, { method, headers, signal, body: body && JSON.stringify(body), credentials: "same-origin" });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({})); // a proxy's page is no JSON: its status says enough
  throw new Fault(told.error?.message ?? answer.statusText, { status: answer.status, code: told.error?.code });
}

/** The names of what this server can be asked by. */
export async function models() {
  return (await (await call("v1/models")).json()).data.map((one) => one.id);
}

/** The chunks of one answer as they come. Aborting the signal ends the work at the server too. */
export async function* chat(request, { signal }) {
  const answer = await call("v1/chat/completions", { body: { ...request, stream: true, stream_options: { include_usage: true } }, signal });
  for await (const chunk of events(answer.body)) {
    if (chunk.error) throw new Fault(chunk.error.message, { status: 500, code: chunk.error.code });
    yield chunk;
  }
}

/** How many tokens a text is; for an answer that was stopped before the server could say. */
export async function countTokens(model, prompt) {
  return (await (await call("tokenize", { body: { model, prompt } })).json()).count;
}
