"""``token_usage``: tokens as OpenAI's interface counts them, for the server and for files of answers."""

from __future__ import annotations

from collections.abc import Sequence

from beichen.inference.api import Request


def token_usage(requests: Sequence[Request], answer_tokens: int) -> dict[str, int]:
    """requests: each prompt once, however many answers it has. answer_tokens: of all answers, shown or not."""
    prompt = sum(len(request.prompt_ids) for request in requests)
    return {"prompt_tokens": prompt, "completion_tokens": answer_tokens, "total_tokens": prompt + answer_tokens}
