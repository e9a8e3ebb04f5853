// Markdown, second half: the text of a block becomes nodes (strong, code, link, formula, ...).
// Emphasis follows CommonMark's stack of delimiters, but with edges that suit Chinese: `**重点：**下文` is strong, though a letter follows.

const ENTITIES = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'", nbsp: "\u00a0" };
const LABEL = "((?:[^\\[\\]\\\\]|\\\\.|\\[[^\\[\\]]*\\]){0,299})"; // bounded, so that many open brackets cost no more than one
const LINK = new RegExp(`!?\\[${LABEL}\\]\\([ \\t]*<?([^\\s<>()]*(?:\\([^\\s()]*\\)[^\\s()]*)*)>?(?:[ \\t]+"[^"]*")?[ \\t]*\\)`, "y");
const BARE = /https?:\/\/[^\s<>"'`()（）「」『』【】《》，。；：！？、\u3400-\u9fff]+(?:\([^\s()]*\))?/y;
const ANGLED = /<(https?:\/\/[^\s<>]+)>/y;
const ENTITY = /&(?:(lt|gt|amp|quot|apos|nbsp)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y;
const FORMULAS = [
  ["$$", "$$", true],
  ["\\[", "\\]", true],
  ["\\(", "\\)", false],
];
const SHORT_FORMULA = /\$(?=[^\s$])((?:[^$\\\n]|\\.)*(?:[^\s$\\]|\\.))\$(?!\d)/y; // 5$ and 6$ are prices
const PLAIN = /[^\\`$<![*_~&h\n]+|./sy;

/** A text's nodes: {type: text|code|formula|link|image|strong|em|del|break, ...}. */
export function readInline(text) {
  const reader = { text, at: 0, missing: new Set() };
  const items = [];
  while (reader.at < text.length) items.push(nodeAt(reader));
  return joined(emphasized(items));
}

function nodeAt(reader) {
  for (const read of [escaped, code, formula, link, address, entity, delimiter, lineBreak]) {
    const node = read(reader);
    if (node) return node;
  }
  return { type: "text", text: match(reader, PLAIN)[0] };
}

function match(reader, pattern) {
  pattern.lastIndex = reader.at;
  const found = pattern.exec(reader.text);
  if (found) reader.at = pattern.lastIndex;
  return found;
}

function escaped(reader) {
  if (reader.text[reader.at] !== "\\" || /[([]/.test(reader.text[reader.at + 1] ?? "")) return null;
  const found = match(reader, /\\([!-/:-@[-`{-~])/y);
  return found && { type: "text", text: found[1] };
}

function code(reader) {
  const marks = /`+/y;
  marks.lastIndex = reader.at;
  const run = marks.exec(reader.text)?.[0];
  if (!run) return null;
  const begin = reader.at + run.length;
  const closing = reader.missing.has(run) ? null : new RegExp(`(?<!\`)${run}(?!\`)`, "g");
  if (closing) closing.lastIndex = begin;
  const found = closing?.exec(reader.text);
  if (!found) {
    reader.missing.add(run); // nor will it be found further on
    reader.at = begin;
    return { type: "text", text: run };
  }
  reader.at = closing.lastIndex;
  const inner = reader.text.slice(begin, found.index).replace(/\n/g, " ");
  return { type: "code", text: /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner };
}

function formula(reader) {
  for (const [opening, closing, display] of FORMULAS) {
    if (!reader.text.startsWith(opening, reader.at) || reader.missing.has(closing)) continue;
    const begin = reader.at + opening.length;
    const end = reader.text.indexOf(closing, begin);
    if (end < 0) reader.missing.add(closing);
    if (end <= begin) continue;
    reader.at = end + closing.length;
    return { type: "formula", text: reader.text.slice(begin, end), display };
  }
  const short = match(reader, SHORT_FORMULA);
  return short && { type: "formula", text: short[1], display: false };
}

function link(reader) {
  if (!/[![]/.test(reader.text[reader.at])) return null;
  const found = match(reader, LINK);
  if (!found) return null;
  const [source, label, href] = found;
  return source[0] === "!" ? { type: "image", label, href, source } : { type: "link", children: readInline(label), href, source };
}

function address(reader) {
  const angled = reader.text[reader.at] === "<" ? match(reader, ANGLED) : null;
  if (angled) return { type: "link", children: [{ type: "text", text: angled[1] }], href: angled[1], source: angled[0] };
  if (/[\p{L}\p{N}_]/u.test(before(reader)) && !/[\u3400-\u9fff]/.test(before(reader))) return null;
  const found = match(reader, BARE);
  if (!found) return null;
  const href = found[0].replace(/[.,;:!?*_~]+$/, "");
  reader.at -= found[0].length - href.length;
  return { type: "link", children: [{ type: "text", text: href }], href, source: href };
}

function entity(reader) {
  const found = match(reader, ENTITY);
  if (!found) return null;
  const [source, name, decimal, hexadecimal] = found;
  const point = name ? null : parseInt(decimal ?? hexadecimal, decimal ? 10 : 16);
  return { type: "text", text: name ? ENTITIES[name] : point && point <= 0x10ffff ? String.fromCodePoint(point) : source };
}

function lineBreak(reader) {
  return match(reader, /\n/y) && { type: "break" };
}

function delimiter(reader) {
  const previous = before(reader);
  const found = match(reader, /\*+|_+|~~(?!~)/y);
  if (!found) return null;
  const [run] = found;
  const next = reader.text[reader.at] ?? " ";
  const word = /[\p{L}\p{N}]/u;
  const product = run === "*" && /\d/.test(previous) && /\d/.test(next); // 2*3*4
  const [opens, closes] = [/\S/.test(next) && !product, /\S/.test(previous) && !product];
  const sides = run[0] === "_" ? { opens: opens && !word.test(previous), closes: closes && !word.test(next) } : { opens, closes };
  return { type: "delimiter", mark: run[0], run: run.length, count: run.length, ...sides };
}

function before(reader) {
  return reader.text[reader.at - 1] ?? " ";
}

/** Pairs of delimiters become nodes; those without a partner stay text. */
function emphasized(items) {
  const done = [];
  const searched = new Map(); // a kind of closing run -> below it none of its opening runs is left
  for (const item of items) {
    if (item.type === "delimiter" && item.closes) close(done, item, searched);
    if (item.type !== "delimiter" || item.count) done.push(item);
  }
  return done.map(settled);
}

function close(done, closer, searched) {
  const kind = `${closer.mark}${closer.opens}${closer.run % 3}`;
  while (closer.count) {
    let place = done.length - 1;
    const bottom = searched.get(kind) ?? 0;
    while (place >= bottom && !isPair(done[place], closer)) place -= 1;
    if (place < bottom) {
      searched.set(kind, done.length);
      return;
    }
    const opener = done[place];
    const used = Math.min(opener.count, closer.count, 2);
    const children = done.splice(place + 1).map(settled);
    opener.count -= used;
    closer.count -= used;
    if (!opener.count) done.pop();
    done.push({ type: closer.mark === "~" ? "del" : used === 2 ? "strong" : "em", children: joined(children) });
    for (const [one, end] of searched) searched.set(one, Math.min(end, done.length));
  }
}

/** CommonMark's rule of three keeps `*a**b*` from being cut in the middle. */
function isPair(opener, closer) {
  if (opener.type !== "delimiter" || opener.mark !== closer.mark || !opener.opens) return false;
  const unclear = opener.closes || closer.opens;
  return !(unclear && (opener.run + closer.run) % 3 === 0 && closer.run % 3);
}

function settled(node) {
  return node.type === "delimiter" ? { type: "text", text: node.mark.repeat(node.count) } : node;
}

function joined(nodes) {
  return nodes.reduce((found, node) => {
    if (node.type === "text" && found.at(-1)?.type === "text") found.at(-1).text += node.text;
    else found.push(node);
    return found;
  }, []);
}
