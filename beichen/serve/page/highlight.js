// Light colours for code: comments, strings, numbers and words of the language. It need not be right, only never lose a letter.

const C_LIKE = { line: "//", block: ["/*", "*/"], strings: "\"'" };
const LANGUAGES = {
  python: {
    line: "#",
    strings: "\"'",
    triple: true,
    words: `
      and as assert async await break case class continue def del elif else except False finally for from global if import in is
      lambda match None nonlocal not or pass raise return self True try while with yield`,
  },
  javascript: {
    ...C_LIKE,
    strings: "\"'`",
    words: `
      async await break case catch class const continue default delete do else enum export extends false finally for from
      function if implements import in instanceof interface let new null of return static super switch this throw true try type
      typeof undefined var void while yield`,
  },
  c: {
    ...C_LIKE,
    words: `
      alignas auto bool break case catch char class const constexpr continue default delete do double else enum explicit extern
      false final float for friend if include inline int long namespace new noexcept nullptr operator override private protected
      public return short signed sizeof static struct switch template this throw true try typedef typename union unsigned using
      virtual void volatile while`,
  },
  java: {
    ...C_LIKE,
    words: `
      abstract boolean break byte case catch char class const continue default do double else enum extends false final finally
      float for foreach fun if implements import in instanceof int interface internal is long namespace new null object override
      package private protected public readonly record return sealed static string super switch this throw throws true try using
      val var void when while`,
  },
  go: {
    ...C_LIKE,
    strings: "\"'`",
    words: `
      break case chan const continue default defer else error fallthrough false for func go goto if import int interface iota
      len make map nil package range return select string struct switch true type var`,
  },
  rust: {
    ...C_LIKE,
    strings: '"',
    words: `
      as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref
      return self Self static struct super trait true type unsafe use where while`,
  },
  shell: {
    line: "#",
    strings: "\"'",
    words: `
      case do done echo elif else esac exit export fi for function if in local return set shift source then until while`,
  },
  sql: {
    line: "--",
    block: ["/*", "*/"],
    strings: "'\"",
    ignoreCase: true,
    words: `
      add alter and as asc between by case create cross default delete desc distinct drop else end exists from full group having
      in index inner insert into is join key left like limit not null offset on or order outer primary references right select
      set table then union unique update values view when where with`,
  },
  data: { line: "#", strings: "\"'", words: "true false null yes no on off" },
  json: { strings: '"', words: "true false null" },
  markup: { block: ["<!--", "-->"], strings: "\"'", words: "" },
};
const OTHER_NAMES = {
  py: "python",
  python3: "python",
  js: "javascript",
  jsx: "javascript",
  ts: "javascript",
  tsx: "javascript",
  typescript: "javascript",
  cpp: "c",
  "c++": "c",
  cc: "c",
  h: "c",
  hpp: "c",
  cuda: "c",
  cs: "java",
  csharp: "java",
  kotlin: "java",
  scala: "java",
  swift: "java",
  php: "java",
  golang: "go",
  rs: "rust",
  bash: "shell",
  sh: "shell",
  zsh: "shell",
  console: "shell",
  yaml: "data",
  yml: "data",
  toml: "data",
  ini: "data",
  jsonl: "json",
  html: "markup",
  xml: "markup",
  svg: "markup",
};
const LONGEST = 50000; // letters; longer code stays plain
const patterns = new Map();

/** Code as [kind, part] pairs that join to it again; kind: comment, string, number, word, or null. */
export function coloured(code, language) {
  const name = language.toLowerCase();
  const spelled = LANGUAGES[OTHER_NAMES[name] ?? name] ? (OTHER_NAMES[name] ?? name) : null;
  if (!spelled || code.length > LONGEST) return [[null, code]];
  if (!patterns.has(spelled)) patterns.set(spelled, patternOf(LANGUAGES[spelled]));
  const parts = [];
  let end = 0;
  for (const found of code.matchAll(patterns.get(spelled))) {
    const kind = Object.keys(found.groups).find((group) => found.groups[group] !== undefined);
    if (found.index > end) parts.push([null, code.slice(end, found.index)]);
    parts.push([kind === "name" ? null : kind, found[0]]);
    end = found.index + found[0].length;
  }
  return end < code.length ? [...parts, [null, code.slice(end)]] : parts;
}

/** One expression for a language. Names are read whole, so that no word is found within one. */
function patternOf({ line, block, strings, triple, words, ignoreCase }) {
  const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const comments = [line && `${quoted(line)}[^\\n]*`, block && `${quoted(block[0])}[^]*?(?:${quoted(block[1])}|$)`].filter(Boolean);
  const texts = [...strings].map((mark) => `${mark}(?:[^${mark}\\\\${mark === "`" ? "" : "\\n"}]|\\\\[^])*(?:${mark}|$)`);
  const kinds = [
    comments.length && `(?<comment>${comments.join("|")})`,
    `(?<string>${[...(triple ? ['"""[^]*?(?:"""|$)', "'''[^]*?(?:'''|$)"] : []), ...texts].join("|")})`,
    words && `(?<word>(?<![\\w$])(?:${words.trim().split(/\s+/).join("|")})(?![\\w$]))`,
    "(?<number>(?<![\\w$])(?:0[xX][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?))",
    "(?<name>[\\p{L}_$][\\p{L}\\p{N}_$]*)",
  ];
  return new RegExp(kinds.filter(Boolean).join("|"), ignoreCase ? "giu" : "gu");
}
