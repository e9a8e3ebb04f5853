"""What a request must keep beyond its JSON schema; loaded by schemathesis. A refusal of what the schema allows must be one of these."""

from __future__ import annotations

import re

import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection

BEYOND_THE_SCHEMA = (
    r"a tool's result must follow the assistant's call", r"no tool message answers the call", r"is no call of messages",
    r"is answered twice", r"two calls have the id", r"two tools are called", r"no tool is called",  # results answer calls, names are single
    r"message \d+ \(role", r"no answer of",  # what the chat format cannot say
    r"this server reads \d+", r"and the model knows 0 to", r"no id of this model",  # lengths in tokens, keys that are ids
    r"max_tokens and max_completion_tokens differ", r"best_of is less than n", r"cannot be streamed",  # two numbers agree
    r"a call is asked for, and the answer", r"continue_final_message",  # what goes together
    r"no call that an answer can begin with",
    r"json_schema", r"regex", r"lark", r"grammar",  # a text in a language of its own
)  # fmt: skip


@schemathesis.check
def refused_for_a_reason(ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """In the place of ``positive_data_acceptance``."""
    allowed = case.meta is not None and case.meta.generation.mode.is_positive
    if allowed and response.status_code == 400 and not any(re.search(rule, response.text) for rule in BEYOND_THE_SCHEMA):
        raise AssertionError(f"the schema allows it: {response.text}")


@schemathesis.check
def refused_in_its_own_way(ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """In the place of ``negative_data_rejection``: the failures of TeleChat's service have status 200 and a code."""
    forbidden = case.meta is not None and case.meta.generation.mode.is_negative
    if not case.operation.path.startswith("/telechat/"):
        negative_data_rejection(ctx, response, case)
    elif forbidden and response.status_code == 200 and '"code":"10' not in response.text:
        raise AssertionError(f"the schema forbids it: {response.text}")
