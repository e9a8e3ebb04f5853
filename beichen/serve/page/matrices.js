// LaTeX's environments: matrices, cases and aligned lines, as tables of MathML.
import { makeMath as m } from "./dom.js";

const BRACKETS = {
  matrix: ["", ""],
  pmatrix: ["(", ")"],
  bmatrix: ["[", "]"],
  Bmatrix: ["{", "}"],
  vmatrix: ["|", "|"],
  Vmatrix: ["‖", "‖"],
  smallmatrix: ["", ""],
  array: ["", ""],
  cases: ["{", ""],
  "cases*": ["{", ""],
  rcases: ["", "}"],
};
const ALIGNED = /^(align|aligned|alignat|split|eqnarray|gather|gathered|equation|multline)\*?$/;

/** What stands between \begin{name} and \end{name}; `reader` is behind the first. */
export function environment(reader, name) {
  if (!BRACKETS[name] && !ALIGNED.test(name)) throw new SyntaxError(`unknown environment ${name}`);
  const layout = name === "array" ? [...reader.words()].filter((letter) => "lcr".includes(letter)) : null;
  const rows = [[]];
  for (;;) {
    rows.at(-1).push(reader.row(["&", "\\\\", "\\end"]));
    const end = reader.take();
    if (end === "\\\\") rows.push([]);
    if (end === "\\end") break;
  }
  if (reader.words() !== name) throw new SyntaxError(`${name} is not closed`);
  if (rows.at(-1).every((cell) => !cell.length)) rows.pop(); // the last line may end like the others
  const side = (place) => {
    if (layout) return { l: "left", r: "right" }[layout[place]] ?? null;
    if (ALIGNED.test(name) && !/^gather|^multline|^equation/.test(name)) return place % 2 ? "left" : "right";
    return name.includes("cases") ? "left" : null;
  };
  const cell = (content, place) => m("mtd", { class: side(place) }, m("mrow", {}, content));
  const table = m(
    "mtable",
    { class: ALIGNED.test(name) ? "aligned" : null, displaystyle: ALIGNED.test(name) ? "true" : null },
    rows.map((cells) => m("mtr", {}, cells.map(cell))),
  );
  const [opening, closing] = (BRACKETS[name] ?? ["", ""]).map((sign) => (sign ? m("mo", { fence: "true", stretchy: "true" }, sign) : null));
  return m("mrow", {}, opening, table, closing);
}
