// Markdown on the page: blocks and nodes become elements, by createElement and textContent alone.
// A model's text is never HTML; its links lead to http(s) only, in a new tab that knows nothing of this one; its images are not loaded.
import { readBlocks } from "./blocks.js";
import { icon, iconButton, make } from "./dom.js";
import { copyText } from "./copying.js";
import { coloured } from "./highlight.js";
import { t } from "./i18n.js";
import { readInline } from "./inline.js";
import { formula } from "./tex.js";

/** An element that shows a growing text: only the blocks that have changed are made again. */
export class Prose {
  #shown = []; // the lines that each child was made from

  constructor() {
    this.element = make("div", { class: "prose" });
  }

  show(text) {
    const blocks = readBlocks(text);
    let same = 0;
    while (same < blocks.length && this.#shown[same] === blocks[same].raw) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    for (const block of blocks.slice(same)) this.element.append(blockElement(block));
    this.#shown = blocks.map((block) => block.raw);
  }
}

const BLOCKS = {
  paragraph: ({ text }) => make("p", {}, inline(text)),
  heading: ({ level, text }) => make(`h${Math.min(level + 2, 6)}`, { class: `level-${level}` }, inline(text)), // the page has h1, a turn h2
  rule: () => make("hr"),
  quote: ({ blocks }) => make("blockquote", {}, blocks.map(blockElement)),
  formula: ({ text }) => formula(text, { display: true }),
  code: codeElement,
  list: listElement,
  table: tableElement,
};

function blockElement(block) {
  return BLOCKS[block.type](block);
}

function codeElement({ language, text }) {
  const lines = make(
    "code",
    {},
    coloured(text, language).map(([kind, part]) => (kind ? make("span", { class: kind }, part) : part)),
  );
  const copy = iconButton("copy", t("copyCode"), () => copyText(text, copy));
  return make("figure", { class: "code" }, make("figcaption", {}, make("span", {}, language), copy), make("pre", { tabindex: 0 }, lines));
}

function listElement({ start, loose, items }) {
  const entries = items.map(({ done, blocks }) => {
    const inner = blocks.map((block) =>
      !loose && block.type === "paragraph" ? make("span", { class: "line" }, inline(block.text)) : blockElement(block),
    );
    if (done === null) return make("li", {}, inner);
    return make(
      "li",
      { class: "task" },
      make("span", { class: "box", role: "img", "aria-label": t(done ? "done" : "open") }, done ? icon("check") : null),
      inner,
    );
  });
  return start === null ? make("ul", {}, entries) : make("ol", { start }, entries);
}

function tableElement({ head, align, rows }) {
  const row = (tag, cells) =>
    make(
      "tr",
      {},
      cells.map((cell, place) => make(tag, { class: align[place] }, inline(cell))),
    );
  const table = make(
    "table",
    {},
    make("thead", {}, row("th", head)),
    make(
      "tbody",
      {},
      rows.map((cells) => row("td", cells)),
    ),
  );
  return make("div", { class: "wide-table", tabindex: 0 }, table);
}

function inline(text) {
  return readInline(text).map(nodeElement);
}

function nodeElement(node) {
  switch (node.type) {
    case "text":
      return node.text;
    case "break":
      return make("br");
    case "code":
      return make("code", {}, node.text);
    case "formula":
      return formula(node.text, { display: node.display });
    case "link":
      return linkElement(node, node.children.map(nodeElement));
    case "image":
      return linkElement(node, [make("span", { class: "image" }, t("image")), node.label || node.href]);
    default: // strong, em, del
      return make(node.type, {}, node.children.map(nodeElement));
  }
}

function linkElement({ href, source }, children) {
  const safe = /^https?:\/\//i.test(href) && URL.canParse(href);
  return safe ? make("a", { href, title: href, target: "_blank", rel: "noopener noreferrer nofollow" }, children) : source;
}
