"""Which problems are held out: decided by a hash of the content alone, so no seed, phrasing or order can move one.

Training may use a problem only if nothing that its dialogue or text reveals is held out (``may_train``); evaluation uses
only problems that are themselves held out.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from beichen.quickstart.skills.skill import Problem, Skill

HELD_OUT_SHARE = 0.05
_THRESHOLD = int(HELD_OUT_SHARE * 2**32)


def is_held_out(problem: Problem) -> bool:
    """Whether this content belongs to the evaluation."""
    digest = blake2b(repr(problem).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < _THRESHOLD


def may_train(skill: Skill, problem: Problem) -> bool:
    """Whether training may see this problem: neither it nor anything else that its text would give away is held out."""
    return not any(is_held_out(revealed) for revealed in skill.reveals(problem))


def training_problem(skill: Skill, rng: Random) -> Problem:
    """A problem drawn uniformly from those that training may see."""
    while True:
        problem = skill.problem(rng.randrange(skill.num_problems))
        if may_train(skill, problem):
            return problem


def held_out_problems(skill: Skill, rng: Random, count: int) -> list[Problem]:
    """``count`` distinct held-out problems, drawn uniformly."""
    chosen: dict[Problem, None] = {}
    while len(chosen) < count:
        problem = skill.problem(rng.randrange(skill.num_problems))
        if is_held_out(problem):
            chosen[problem] = None
    return list(chosen)
