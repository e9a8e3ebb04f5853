// LaTeX formulas, a sensible part of them, as MathML, which browsers draw by themselves.
// A command that is not known stands in the formula as it was written; what cannot be read at all is shown as its source.
import { make, makeMath as m } from "./dom.js";
import { t } from "./i18n.js";
import { environment } from "./matrices.js";
import { ACCENTS, BELOW, FENCES, FUNCTIONS, inHand, INTEGRALS, LARGE, LETTERS, LIMITS, OPERATORS, SPACES } from "./symbols.js";

const DEEPEST = 40;
const TOKEN = /\\(?:[a-zA-Z]+\*?|[^])|\d+(?:[.,]\d+)*|\s+|[^]/gu;
const HANDS = {
  mathbf: "bold",
  boldsymbol: "bold",
  bm: "bold",
  mathbb: "bb",
  mathcal: "script",
  mathscr: "script",
  mathfrak: "fraktur",
  mathsf: "sans",
  mathtt: "typewriter",
};
const UPRIGHT = new Set(["text", "textrm", "textbf", "textit", "mathrm", "operatorname", "operatorname*", "mbox", "rm"]);
const SILENT = new Set([
  "displaystyle",
  "textstyle",
  "scriptstyle",
  "limits",
  "nolimits",
  "nonumber",
  "notag",
  "mathstrut",
  "allowbreak",
  "big",
  "Big",
  "bigg",
  "Bigg",
  "bigl",
  "bigr",
  "Bigl",
  "Bigr",
  "biggl",
  "biggr",
  "Biggl",
  "Biggr",
  "bigm",
  "Bigm",
  "mathopen",
  "mathclose",
]);

/** A formula's element. */
export function formula(source, { display }) {
  try {
    const reader = new Reader(source, display);
    const content = reader.row(null);
    if (!reader.atEnd) throw new SyntaxError(`${reader.peek()} closes nothing`);
    return m("math", { display: display ? "block" : "inline", "aria-label": source }, m("mrow", {}, content));
  } catch (fault) {
    if (!(fault instanceof SyntaxError)) throw fault;
    return make("code", { class: "source" }, source);
  }
}

export class Reader {
  #tokens;
  #at = 0;
  #depth = 0;

  constructor(source, display) {
    this.#tokens = source.replace(/(?<!\\)%[^\n]*/g, "").match(TOKEN) ?? [];
    this.display = display;
  }

  get atEnd() {
    this.#skipSpace();
    return this.#at >= this.#tokens.length;
  }

  peek() {
    this.#skipSpace();
    return this.#tokens[this.#at];
  }

  take(expected = null) {
    const token = this.peek();
    if (token === undefined || (expected && token !== expected)) throw new SyntaxError(`expected ${expected ?? "more"}`);
    this.#at += 1;
    return token;
  }

  #skipSpace() {
    while (/^\s/.test(this.#tokens[this.#at] ?? "")) this.#at += 1;
  }

  /** Everything up to one of the tokens `ends` (null: up to the end), which stays. */
  row(ends) {
    if ((this.#depth += 1) > DEEPEST) throw new SyntaxError("too deep");
    const found = [];
    while (!this.atEnd && !ends?.includes(this.peek()) && !(ends === null && ["}", "\\right", "\\end", "&"].includes(this.peek()))) {
      found.push(...[this.#scripted()].filter(Boolean));
    }
    this.#depth -= 1;
    return found;
  }

  /** `{...}`, or one atom. */
  group() {
    if ((this.#depth += 1) > DEEPEST) throw new SyntaxError("too deep");
    const found = this.peek() === "{" ? m("mrow", {}, this.#braced()) : (this.#atom() ?? m("mrow"));
    this.#depth -= 1;
    return found;
  }

  #braced() {
    this.take("{");
    const found = this.row(["}"]);
    this.take("}");
    return found;
  }

  /** The letters of `{...}` as they stand, spaces too. */
  words() {
    this.take("{");
    let [text, depth] = ["", 0];
    for (; this.#at < this.#tokens.length; this.#at += 1) {
      const token = this.#tokens[this.#at];
      if (token === "}" && depth === 0) break;
      depth += { "{": 1, "}": -1 }[token] ?? 0;
      text += /^[{}$]$/.test(token) ? "" : /^\\[^a-zA-Z]$/.test(token) ? token[1] : token;
    }
    this.take("}");
    return text;
  }

  #scripted() {
    const base = this.#atom();
    let [below, above] = [null, null];
    for (
      let next = this.peek();
      next === "_" || next === "^" || next === "'" || next === "\\limits" || next === "\\nolimits";
      next = this.peek()
    ) {
      this.take();
      if (next === "_") below = this.group();
      else if (next === "^") above = above ? m("mrow", {}, above, this.group()) : this.group();
      else if (next === "'") above = m("mrow", {}, above, m("mo", {}, "′"));
    }
    if (!below && !above) return base;
    const around = base?.dataset.limits === "always" || (base?.dataset.limits === "roomy" && this.display);
    const tag = around ? ["mover", "munder", "munderover"] : ["msup", "msub", "msubsup"];
    return m(tag[(below ? 1 : 0) + (below && above ? 1 : 0)], {}, base ?? m("mrow"), below, above);
  }

  #atom() {
    const token = this.peek();
    if (token === "{") return m("mrow", {}, this.#braced());
    if (token === "_" || token === "^" || token === "'") return null; // a script without a base
    this.take();
    if (token === "}" || token === "&") throw new SyntaxError(`${token} closes nothing`);
    if (/^\d/.test(token)) return m("mn", {}, token);
    if (/^\p{L}/u.test(token)) return /[\u3000-\u9fff]/.test(token) ? m("mtext", {}, token) : m("mi", {}, token);
    if (token === "~") return m("mspace", { width: "0.33em" });
    if (token[0] !== "\\")
      return m("mo", /[()[\]|]/.test(token) ? { stretchy: "false" } : {}, token === "-" ? "−" : token === "*" ? "∗" : token);
    return this.#command(token.slice(1));
  }

  #command(name) {
    if (LETTERS[name]) return m("mi", /^[A-Z]|infty|nabla/.test(name) ? { mathvariant: "normal" } : {}, LETTERS[name]);
    if (OPERATORS[name]) return m("mo", /vert|Vert|mid/.test(name) ? { stretchy: "false" } : {}, OPERATORS[name]);
    if (LARGE[name]) return m("mo", { "data-limits": "roomy", largeop: "true", movablelimits: "false" }, LARGE[name]);
    if (INTEGRALS[name]) return m("mo", { largeop: "true" }, INTEGRALS[name]);
    if (LIMITS.has(name)) return m("mi", { "data-limits": "roomy" }, name.replace(/^(lim|arg)(?=.)/, "$1\u2009"));
    if (FUNCTIONS.has(name)) return m("mrow", {}, m("mi", {}, name), m("mspace", { width: "0.17em" }));
    if (name in SPACES) return m("mspace", { width: `${SPACES[name]}em` });
    if (SILENT.has(name)) return null;
    if (UPRIGHT.has(name))
      return m("mtext", name === "operatorname*" ? { "data-limits": "roomy" } : {}, this.peek() === "{" ? this.words() : "");
    if (HANDS[name]) return this.#inHand(HANDS[name]);
    if (ACCENTS[name])
      return m(
        "mover",
        { accent: "true", ...(name === "overbrace" && { "data-limits": "always" }) },
        this.group(),
        m("mo", { stretchy: /^(over|wide)/.test(name) ? "true" : "false" }, ACCENTS[name]),
      );
    if (BELOW[name]) return m("munder", { "data-limits": "always" }, this.group(), m("mo", { stretchy: "true" }, BELOW[name]));
    if (/^[{}%$#&_|]$/.test(name)) return m("mo", { stretchy: "false" }, name === "|" ? "‖" : name);
    return this.#construction(name);
  }

  #inHand(hand) {
    const inner = this.peek() === "{" ? m("mrow", {}, this.#braced()) : this.group();
    for (const letter of [inner, ...inner.querySelectorAll("*")].filter((one) => /^m[in]$/.test(one.localName))) {
      letter.textContent = [...letter.textContent].map((one) => inHand(one, hand)).join("");
    }
    return inner;
  }

  #construction(name) {
    switch (name) {
      case "frac":
      case "dfrac":
      case "tfrac":
      case "cfrac":
        return m("mfrac", name === "dfrac" ? { displaystyle: "true" } : {}, this.group(), this.group());
      case "binom":
      case "dbinom":
      case "tbinom":
        return m("mrow", {}, m("mo", {}, "("), m("mfrac", { linethickness: "0" }, this.group(), this.group()), m("mo", {}, ")"));
      case "sqrt":
        return this.#root();
      case "overset":
      case "stackrel": {
        const above = this.group();
        return m("mover", {}, this.group(), above);
      }
      case "underset": {
        const below = this.group();
        return m("munder", {}, this.group(), below);
      }
      case "left":
        return this.#fenced();
      case "middle":
        return m("mo", { stretchy: "true" }, this.#fence());
      case "boxed":
        return m("mrow", { class: "boxed" }, this.group());
      case "bmod":
      case "mod":
        return m("mo", { lspace: "0.28em", rspace: "0.28em" }, "mod");
      case "pmod":
        return m(
          "mrow",
          {},
          m("mspace", { width: "0.5em" }),
          m("mo", {}, "("),
          m("mi", {}, "mod"),
          m("mspace", { width: "0.28em" }),
          this.group(),
          m("mo", {}, ")"),
        );
      case "not":
        return m("mo", {}, `${this.group().textContent}\u0338`);
      case "tag":
        return m("mtext", { class: "tag" }, `(${this.words()})`);
      case "begin":
        return environment(this, this.words());
      case "\\":
      case "newline":
        return m("mspace", { linebreak: "newline" });
      default:
        return m("mtext", { class: "unknown", title: t("unknownCommand") }, `\\${name}`);
    }
  }

  #root() {
    if (this.peek() !== "[") return m("msqrt", {}, this.group());
    this.take("[");
    const degree = m("mrow", {}, this.row(["]"]));
    this.take("]");
    return m("mroot", {}, this.group(), degree);
  }

  #fence() {
    const token = this.take();
    const name = token.replace(/^\\(?=[a-zA-Z{}])/, "");
    const sign = FENCES[token] ?? FENCES[name] ?? OPERATORS[name];
    if (sign === undefined) throw new SyntaxError(`${token} is no bracket`);
    return sign;
  }

  #fenced() {
    const opening = this.#fence();
    const inner = this.row(["\\right"]);
    this.take("\\right");
    const bracket = (sign, form) => (sign ? m("mo", { form, stretchy: "true", fence: "true" }, sign) : null);
    return m("mrow", {}, bracket(opening, "prefix"), inner, bracket(this.#fence(), "postfix"));
  }
}
