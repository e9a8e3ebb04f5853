"""Very short stories about people, places and things: connected text around the words that the skills use."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.skill import Language, pick_language
from beichen.quickstart.skills.words import COLOURS, NAMES, PLACES, WORDS, word

_OPENINGS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "{a}和{b}是好朋友。",
        "今天天气很好，{a}想出门走走。",
        "从前，{a}和{b}住在同一条街上。",
        "{a}一早就醒了。",
    ),
    "en": (
        "{a} and {b} are good friends.",
        "It is a fine day, and {a} wants to go out.",
        "Once {a} and {b} lived in the same street.",
        "{a} woke up early.",
    ),
}
_EVENTS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "{a}去了{place}，在那里看到了{x}和{y}。",
        "{b}带来了{colour}的{x}。",
        "{a}问：“你喜欢{x}吗？”{b}说：“我更喜欢{y}。”",
        "他们一起在{place}找{x}。",
        "{b}说{x}在{y}的旁边。",
        "{a}把{x}送给了{b}，{b}很高兴。",
        "{place}的门口有{colour}的{y}。",
        "{b}忘了带{x}，只好回家去拿。",
    ),
    "en": (
        "{a} went to the {place} and saw a {x} and a {y}.",
        "{b} brought a {colour} {x}.",
        '{a} asked: "Do you like the {x}?" {b} said: "I like the {y} more."',
        "They looked for the {x} at the {place}.",
        "{b} said that the {x} was next to the {y}.",
        "{a} gave the {x} to {b}, and {b} was glad.",
        "There was a {colour} {y} in front of the {place}.",
        "{b} had left the {x} behind and went home for it.",
    ),
}
_ENDINGS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "天黑了，{a}和{b}一起回家。",
        "那天大家都很开心。",
        "后来，{a}常常说起{x}的事。",
        "最后{b}笑了，{a}也笑了。",
    ),
    "en": (
        "When it got dark, {a} and {b} went home together.",
        "Everyone was happy that day.",
        "Later {a} often spoke of the {x}.",
        "In the end {b} laughed, and {a} laughed too.",
    ),
}


def story(rng: Random) -> str:
    """An opening, two to four events, an ending; the same people and things run through it."""
    language = pick_language(rng)
    a, b = rng.sample(NAMES[language], 2)
    x, y = (word(number, language) for number in rng.sample(range(len(WORDS)), 2))
    words = {"a": a, "b": b, "x": x, "y": y, "place": rng.choice(PLACES[language]), "colour": rng.choice(COLOURS[language])}
    events = rng.sample(_EVENTS[language], rng.randrange(2, 5))
    sentences = [rng.choice(_OPENINGS[language]), *events, rng.choice(_ENDINGS[language])]
    return ("" if language == "zh" else " ").join(sentences).format(**words)
