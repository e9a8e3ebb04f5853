"""Where Jinja programs of strangers run: no attribute that leads out, no endless loop, no text without bounds.

Comes in: the source of a chat template as published. Goes out: a program whose every literal is a variable, so that each run can hand
in literals that are marked as the template's own (see ``jinja_template``). On top of the library's immutable sandbox stand limits on
steps, time and sizes, and short lists of the filters and methods that chat templates use; everything else is refused by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SOURCE = 1 << 18  # characters of a program
MAX_SIZE = 1 << 22  # characters of any text that it makes, or items of any list
MAX_STEPS = 200_000  # rounds of all loops and calls of its macros together
MAX_SECONDS = 5.0  # of this thread's own time, so that a busy machine refuses nothing
LITERAL, STEP, CONCAT = "_beichen_literal_", "_beichen_step", "_beichen_concat"
ANSWER_BEGIN, ANSWER_END = "_beichen_answer_begin", "_beichen_answer_end"

_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length", "list", "lower", "map",
    "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "sort", "string", "title", "trim", "unique", "upper",
)  # fmt: skip
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset((
        "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith", "removeprefix",
        "removesuffix", "find", "rfind", "index", "count", "lower", "upper", "title", "capitalize", "replace", "isdigit", "isalpha",
        "isspace",
    )),
    dict: frozenset(("items", "keys", "values", "get")),
    list: frozenset(("index", "count")),
    tuple: frozenset(("index", "count")),
}  # fmt: skip


class LimitError(Exception):
    """A program that wants too much."""


def bounded(size: int) -> None:
    """Refuse a text or list of that size before it is made."""
    if size > MAX_SIZE:
        raise LimitError(f"it makes a text or list of {size} items; {MAX_SIZE} are allowed")


class Steps:
    """Counts rounds of one run and looks at the clock."""

    def __init__(self) -> None:
        self._left, self._deadline = MAX_STEPS, time.thread_time() + MAX_SECONDS

    def __call__(self) -> str:
        self._left -= 1
        if self._left < 0:
            raise LimitError(f"it goes more than {MAX_STEPS} rounds")
        if time.thread_time() > self._deadline:
            raise LimitError(f"it works for more than {MAX_SECONDS} seconds")
        return ""


def concatenate(*parts: Any) -> str:
    """What ``~`` does, within bounds."""
    texts = [str(part) for part in parts]
    bounded(sum(map(len, texts)))
    return "".join(texts)


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    """Replaces ``old`` as it reads and as it comes out, for a text may hold either."""
    result, limit = str(text), -1 if count is None else count
    for written in dict.fromkeys((str.__str__(old), str(old))):
        found = result.count(written)
        bounded(len(result) + (found if limit < 0 else min(found, limit)) * len(new))
        result = result.replace(written, str(new), limit)
    return result


def _filter_join(values: Any, d: str = "", attribute: str | None = None) -> str:
    texts = [str(value if attribute is None else value[attribute]) for value in values]
    bounded(sum(map(len, texts)) + len(texts) * len(d))
    return str(d).join(texts)


def _filter_indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    space = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = str(text).split("\n")
    bounded(sum(map(len, lines)) + len(lines) * (len(space) + 1))
    return "\n".join((space if (place or first) and (line or blank) else "") + line for place, line in enumerate(lines))


class Sandbox(ImmutableSandboxedEnvironment):
    """The library's sandbox with short lists and limits."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[LoopControlExtension, _Answers])
        known = {name: self.filters[name] for name in _FILTERS}
        own = {"replace": _replace, "join": _filter_join, "indent": _filter_indent, "safe": lambda value: value}
        self.filters = {**known, **own, **filters}
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace")}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        listed = next((methods for kind, methods in _METHODS.items() if isinstance(obj, kind)), None)
        return attr in listed if listed is not None else super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  the library's own names
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and getattr(__obj, "__name__", "") == "replace":
            return _replace(owner, *args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            bounded(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            raise LimitError("it formats text with %, which is not supported")
        elif operator == "*":
            sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
            bounded(len(sized) * max(int(times), 0) if hasattr(sized, "__len__") else _bits(left) + _bits(right))
        elif operator == "**":
            bounded(_bits(left) * int(abs(right)))
        return super().call_binop(context, operator, left, right)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 64


class _Answers(Extension):
    """``{% generation %}``: what stands inside is an answer to be learnt."""

    tags = {"generation"}  # noqa: RUF012  the library's way

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.Name(name, "load")]).set_lineno(line) for name in (ANSWER_BEGIN, ANSWER_END))
        return [begin, *body, end]


class _Instrument(NodeTransformer):
    """Literals become variables, and loops, macros and ``~`` are counted."""

    def __init__(self) -> None:
        self.literals: list[str] = []

    def _literal(self, text: str) -> nodes.Name:
        self.literals.append(text)
        return nodes.Name(f"{LITERAL}{len(self.literals) - 1}", "load")

    def visit_Const(self, node: nodes.Const) -> nodes.Expr:  # noqa: N802  (named after the node, as the library looks them up)
        return self._literal(node.value) if isinstance(node.value, str) and node.value else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Expr:  # noqa: N802  (named after the node, as the library looks them up)
        return self._literal(node.data)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802  (named after the node, as the library looks them up)
        self.generic_visit(node)
        return nodes.Call(nodes.Name(CONCAT, "load"), node.nodes, [], None, None)

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body = [nodes.Output([nodes.Call(nodes.Name(STEP, "load"), [], [], None, None)]), *node.body]
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815  (the same)


class Program:
    """A compiled template and the literals it was written with."""

    def __init__(self, source: str, filters: Mapping[str, Callable[..., Any]]) -> None:
        if len(source) > MAX_SOURCE:
            raise LimitError(f"it is {len(source)} characters long; {MAX_SOURCE} are allowed")
        self._sandbox = Sandbox(filters)
        instrument = _Instrument()
        tree = instrument.visit(self._sandbox.parse(source))
        for node in tree.find_all(nodes.Node):
            if node.lineno is None:
                node.set_lineno(1)
            node.set_environment(self._sandbox)
        self.literals = instrument.literals
        self.has_answers = ANSWER_BEGIN in {name.name for name in tree.find_all(nodes.Name)}
        code = compile(self._sandbox.compile(tree, raw=True), "<chat template>", "exec")
        self._template = jinja2.Template.from_code(self._sandbox, code, self._sandbox.globals)

    def run(self, variables: Mapping[str, Any]) -> str:
        """The text of one run; ``variables`` hold the literals too."""
        context = self._template.new_context({**variables, STEP: Steps(), CONCAT: concatenate})
        parts: list[str] = []
        size = 0
        for part in self._template.root_render_func(context):
            size += len(part)
            bounded(size)
            parts.append(part)
        return "".join(parts)
