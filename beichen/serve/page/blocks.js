// Markdown, first half: lines become blocks (headings, lists, tables, fences, formulas, ...), each with the lines that it was read from.
// Not read: HTML, which stays text, and code by indentation, which in answers of models is nearly always a list gone astray.

const DEEPEST = 12; // lists and quotes within each other; further down all is a paragraph
const LONGEST_FORMULA = 60; // lines
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}>[ \t]?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+(?=\S)|[ \t]*$)/;
const UNDERLINE = /^ {0,3}(={3,}|-{3,})[ \t]*$/;
const COLUMNS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const FORMULA = /^\s*(\$\$|\\\[)/;

/** A text's blocks: [{type, ..., raw}]. A text that grows changes its last blocks only. */
export function readBlocks(text) {
  return read(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0);
}

function read(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, next] = blockAt(lines, at, depth);
    blocks.push({ ...block, raw: lines.slice(at, next).join("\n") });
    at = next;
  }
  return blocks;
}

function blockAt(lines, at, depth) {
  if (depth < DEEPEST) {
    for (const reader of [fence, formula, heading, rule, quote, list, table]) {
      const found = reader(lines, at, depth);
      if (found) return found;
    }
  }
  return paragraph(lines, at, depth);
}

function fence(lines, at) {
  const opening = FENCE.exec(lines[at]);
  if (!opening) return null;
  const [, marks, info] = opening;
  const indent = lines[at].search(/\S/);
  const closing = new RegExp(`^ {0,${indent + 3}}\\${marks[0]}{${marks.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const text = lines
    .slice(at + 1, end)
    .map((line) => line.slice(Math.min(indent, indentOf(line))))
    .join("\n");
  return [{ type: "code", language: info.trim().split(/\s/)[0], text, closed: end < lines.length }, end + 1];
}

function formula(lines, at) {
  const opening = FORMULA.exec(lines[at])?.[1];
  if (!opening) return null;
  const closing = opening === "$$" ? "$$" : "\\]";
  const first = lines[at].indexOf(opening) + opening.length;
  for (let end = at; end < Math.min(lines.length, at + LONGEST_FORMULA); end += 1) {
    const place = lines[end].indexOf(closing, end === at ? first : 0);
    if (place < 0) continue;
    if (lines[end].slice(place + closing.length).trim()) return null; // text follows on the line: a formula within a paragraph
    const text =
      end === at
        ? lines[at].slice(first, place)
        : [lines[at].slice(first), ...lines.slice(at + 1, end), lines[end].slice(0, place)].join("\n");
    return [{ type: "formula", text }, end + 1];
  }
  return null;
}

function heading(lines, at) {
  const found = HEADING.exec(lines[at]);
  return found && [{ type: "heading", level: found[1].length, text: found[2] ?? "" }, at + 1];
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? [{ type: "rule" }, at + 1] : null;
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return end > at
    ? [
        {
          type: "quote",
          blocks: read(
            lines.slice(at, end).map((line) => line.replace(QUOTE, "")),
            depth + 1,
          ),
        },
        end,
      ]
    : null;
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  if (!first) return null;
  const [indent, kind] = [first[1].length, kindOf(first[2])];
  const [items, gaps] = [[], []];
  let end = at;
  while (end < lines.length) {
    const marker = ITEM.exec(lines[end]);
    if (!marker || marker[1].length > indent + 1 || marker[1].length < indent || kindOf(marker[2]) !== kind || RULE.test(lines[end])) break;
    const next = endOfItem(lines, end, indent);
    const inner = [lines[end].slice(marker[0].length), ...lines.slice(end + 1, next).map((line) => dedent(line, marker[0].length))];
    const task = /^\[([ xX])\] /.exec(inner[0]);
    if (task) inner[0] = inner[0].slice(task[0].length);
    items.push({ done: task ? task[1] !== " " : null, blocks: read(inner, depth + 1) });
    end = next;
    while (end < lines.length && !lines[end].trim()) end += 1;
    gaps.push(end > next);
  }
  while (end > at && !lines[end - 1].trim()) end -= 1; // empty lines behind the list are not its own
  const loose =
    gaps.slice(0, -1).some(Boolean) || items.some((item) => item.blocks.filter((block) => block.type === "paragraph").length > 1);
  return items.length ? [{ type: "list", start: /\d/.test(kind) ? parseInt(first[2], 10) : null, loose, items }, end] : null;
}

function kindOf(marker) {
  return /\d/.test(marker) ? `1${marker.at(-1)}` : marker;
}

/** Where an item ends: what is indented more than its marker is its own, and lines that carry its paragraph on. */
function endOfItem(lines, at, indent) {
  let end = at + 1;
  for (let next = end; next < lines.length; next += 1) {
    if (!lines[next].trim()) continue;
    const inside = indentOf(lines[next]) >= indent + 2;
    const carriedOn = next === end && !begins(lines, next);
    if (!inside && !carriedOn) break;
    end = next + 1;
  }
  return end;
}

function table(lines, at) {
  if (!lines[at].includes("|") || at + 1 >= lines.length || !COLUMNS.test(lines[at + 1]) || !lines[at + 1].includes("-")) return null;
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((cell) => (/^:-*:$/.test(cell) ? "center" : /-:$/.test(cell) ? "right" : null));
  if (head.length !== align.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => head.map((_, place) => cells(line)[place] ?? ""));
  return [{ type: "table", head, align, rows }, end];
}

/** A row's cells, cut at bars that stand neither behind a backslash nor in code. */
function cells(line) {
  const inner = line
    .trim()
    .replace(/^\|/, "")
    .replace(/(?<!\\)\|$/, "");
  const parts = inner.match(/(?:\\.|`[^`]*`|[^|])+|(?<=\||^)(?=\||$)/g) ?? [""];
  return parts.map((part) => part.trim().replace(/\\\|/g, "|"));
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !(depth < DEEPEST && begins(lines, end))) {
    const under = UNDERLINE.exec(lines[end]);
    if (under) return [{ type: "heading", level: under[1][0] === "=" ? 1 : 2, text: inline(lines, at, end) }, end + 1];
    end += 1;
  }
  return [{ type: "paragraph", text: inline(lines, at, end) }, end];
}

function inline(lines, at, end) {
  return lines
    .slice(at, end)
    .map((line) => line.replace(/^ +/, ""))
    .join("\n");
}

/** Whether a line ends the paragraph above it. */
function begins(lines, at) {
  const line = lines[at];
  if (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || (RULE.test(line) && !UNDERLINE.test(line))) return true;
  const item = ITEM.exec(line);
  if (item && item[0].length < line.length) return true;
  return formula(lines, at) !== null || table(lines, at) !== null;
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function dedent(line, count) {
  return line.slice(Math.min(count, indentOf(line)));
}
