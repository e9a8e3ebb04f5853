"""The threads that OpenMP keeps for whoever computes, torch's and ours alike: each thread of the program has helpers of its own."""

from __future__ import annotations

from beichen.nn.kernels import build


def end_helpers() -> None:
    """End the helpers that the calling thread has from what it computed; where it computes again, it gets new ones.

    A process with more of them than cores makes OpenMP put them to sleep at every meeting instead of letting them wait awake: a step that
    meets forty times takes a tenth longer. Without compiled kernels nothing meets as often, and nothing is done.
    """
    if build.library() is not None:
        build.function("end_helpers", ">i")()
