// What a fault is to a reader: which of the page's words tell it and what helps, by the code that the server gives.
import { Fault } from "./api.js";
import { preference } from "./preferences.js";

const BY_CODE = new Map([
  ["context_length_exceeded", "tooLong"],
  ["body_too_large", "tooLarge"],
  ["body_timeout", "slow"],
  ["model_not_found", "noModel"],
  ["invalid_api_key", "wrongKey"],
  ["overloaded", "busy"],
  ["queue_timeout", "waited"],
  ["timeout", "expired"],
  ["shutting_down", "ending"],
  ["engine_failed", "failed"],
  ["internal_error", "failed"],
]);
const BY_STATUS = new Map([
  [401, "wrongKey"],
  [429, "busy"],
]); // a proxy's, which gives no code

/** The fault as the page's words know it: {key, words}, words being the server's own. begun: whether a part of the answer has come. */
export function describe(fault, { begun = false } = {}) {
  if (fault instanceof TypeError) return { key: begun ? "broken" : "unreachable" }; // fetch's own fault
  if (!(fault instanceof Fault)) throw fault;
  const key = BY_CODE.get(fault.code) ?? BY_STATUS.get(fault.status) ?? "refused";
  return { key: key === "wrongKey" && !preference("key") ? "noKey" : key, words: fault.message };
}

/** Whether a fault is about the key, so that another one helps. */
export function asksForKey(fault) {
  return fault?.key === "noKey" || fault?.key === "wrongKey";
}
