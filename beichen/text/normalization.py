"""Optional rewriting of text before it is cut: traditional characters to simplified ones, compatibility forms to plain ones.

Comes in: the names of steps. Goes out: a function. Rule: what a tokenizer was trained with stands in its folder and is applied whenever it
encodes; steps run in the order of ``STEPS``, however they were named. ``nfkc`` is stated in ``tokenizer.json`` itself, where every
program applies it; ``t2s`` (opencc) has no form there, so it stands in ``tokenizer_config.json`` and other programs must do it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from beichen.errors import TokenizerError, nearest

STEPS = ("t2s", "nfkc")
STATED_STEPS = ("nfkc",)  # of them, those that tokenizer.json itself can say
NORMALIZATION_KEY = "beichen_normalization"  # in tokenizer_config.json


def ordered_steps(names: Sequence[str]) -> tuple[str, ...]:
    """The steps, each once, in their order; an unknown one is an error."""
    for name in names:
        if name not in STEPS:
            raise TokenizerError(f"no normalization is called '{name}'{nearest(name, STEPS)}; known: {', '.join(STEPS)}")
    return tuple(step for step in STEPS if step in names)


def normalizer(names: Sequence[str]) -> Callable[[str], str] | None:
    """What the steps do to a text; ``None`` where there are none."""
    functions = [_STEPS[step]() for step in ordered_steps(names)]
    if not functions:
        return None

    def normalize(text: str) -> str:
        for function in functions:
            text = function(text)
        return text

    return normalize


def _traditional_to_simplified() -> Callable[[str], str]:
    try:
        import opencc
    except ImportError as fault:
        raise TokenizerError(
            "traditional characters are turned into simplified ones by the package opencc, which is not installed",
            remedy="pip install 'beichen[chinese]'",
        ) from fault
    convert: Callable[[str], str] = opencc.OpenCC("t2s").convert
    return convert


def _compatibility_forms() -> Callable[[str], str]:
    from tokenizers import normalizers

    convert: Callable[[str], str] = normalizers.NFKC().normalize_str  # the same tables as when the file is used
    return convert


_STEPS = {"t2s": _traditional_to_simplified, "nfkc": _compatibility_forms}
