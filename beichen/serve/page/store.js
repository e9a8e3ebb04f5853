// Conversations, kept in this browser alone (IndexedDB): one record each, so that two tabs never overwrite each other's.
import { place } from "./preferences.js";

const SHELF = "conversations";
const news = new BroadcastChannel(place);
let database;

/** Open the shelf; where the browser keeps nothing (some private windows), a shelf that lasts as long as the tab. -> whether it lasts */
export async function openStore() {
  try {
    database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(place, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(SHELF, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return true;
  } catch {
    database = null;
    return false;
  }
}

const unkept = new Map();

function ask(mode, question) {
  return new Promise((resolve, reject) => {
    const request = question(database.transaction(SHELF, mode).objectStore(SHELF));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** All of them, the latest first. */
export async function conversations() {
  const found = database ? await ask("readonly", (shelf) => shelf.getAll()) : [...unkept.values()];
  return found.sort((one, other) => other.changed - one.changed);
}

export async function keep(conversation) {
  if (database) await ask("readwrite", (shelf) => shelf.put(conversation));
  else unkept.set(conversation.id, conversation);
  news.postMessage(conversation.id);
}

export async function forget(id) {
  if (database) await ask("readwrite", (shelf) => shelf.delete(id));
  else unkept.delete(id);
  news.postMessage(id);
}

/** Called with a conversation's id when another tab has changed it. */
export function onNews(listener) {
  news.addEventListener("message", (event) => listener(event.data));
}
