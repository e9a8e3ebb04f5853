"""Every skill of the main job, in the order of its table: a new one is a line here and its file."""

from __future__ import annotations

from beichen.quickstart.skills.arithmetic import ADDITION, SUBTRACTION
from beichen.quickstart.skills.calendar import DATE, WEEKDAY
from beichen.quickstart.skills.chinese_numbers import CHINESE_ARITHMETIC, NUMERALS
from beichen.quickstart.skills.facts import FACTS
from beichen.quickstart.skills.follow_ups import FOLLOW_UP_LIST, FOLLOW_UP_SUM
from beichen.quickstart.skills.ordering import COMPARISON, SORTING
from beichen.quickstart.skills.sequences import COPYING, COUNTING, REVERSING
from beichen.quickstart.skills.skill import Skill
from beichen.quickstart.skills.translation import TRANSLATION
from beichen.quickstart.skills.units import UNITS

SKILLS: tuple[Skill, ...] = (
    ADDITION,
    SUBTRACTION,
    CHINESE_ARITHMETIC,
    NUMERALS,
    COMPARISON,
    SORTING,
    WEEKDAY,
    DATE,
    UNITS,
    FACTS,
    COPYING,
    REVERSING,
    COUNTING,
    TRANSLATION,
    FOLLOW_UP_SUM,
    FOLLOW_UP_LIST,
)
