"""The refusal of a model's name that is not here; the same words and code for a server and for a file of requests."""

from __future__ import annotations

from collections.abc import Sequence

from beichen.errors import RequestError, nearest


def no_such_model(asked: str, names: Sequence[str], *, here: str, param: str) -> RequestError:
    """names: what can be asked for; here: the words before them."""
    known = " and ".join(f"'{one}'" for one in names)
    return RequestError(f"there is no model '{asked}'; {here} {known}{nearest(asked, names)}", param=param, code="model_not_found")
