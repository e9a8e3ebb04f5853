"""The examination: every held-out question asked as a user would, own earlier replies heard, the last answer checked exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from beichen.inference.api import Completion, Request
from beichen.inference.generation import DecoderGenerator
from beichen.inference.language_model import LanguageModel
from beichen.quickstart.corpus import HeldOutDialogue, generate_documents, held_out
from beichen.quickstart.examination import MAX_NEW_TOKENS, examine, sample_dialogues
from beichen.quickstart.plan import make_plan
from beichen.quickstart.recipes import TEMPLATE
from beichen.quickstart.skills.registry import SKILLS
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.messages import Message
from beichen.util.progress import SILENT, Reporter
from tests.inference.small_models import small_decoder, small_tokenizer

TURNS_OF_TWO = [skill.name for skill in SKILLS if skill.name.startswith("follow_up")]


class Candidate(DecoderGenerator):
    """Answers each prompt as ``reply`` says of its text; ``prompts`` are all that it was asked."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        super().__init__(small_decoder(), small_tokenizer())
        self.reply, self.prompts, self.longest = reply, list[str](), 0

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        texts = [small_tokenizer().decode(request.prompt_ids, skip_special=False) for request in requests]
        self.prompts += texts
        self.longest = max(self.longest, *(request.max_new_tokens for request in requests))
        return [Completion(text=self.reply(text), ids=(), finish_reason="stop") for text in texts]


def prompt_text(messages: Sequence[Message]) -> str:
    tokenizer = small_tokenizer()
    return tokenizer.decode(tokenizer.render(messages, add_generation_prompt=True).ids, skip_special=False)


def model_of(candidate: Candidate) -> LanguageModel:
    model = LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")
    model.generator = candidate
    return model


@pytest.fixture(scope="module")
def items() -> list[HeldOutDialogue]:
    return held_out(0, per_skill=3)


@pytest.fixture(scope="module")
def references(items) -> dict[str, str]:
    """The reply that follows each prompt of the reference dialogues."""
    found = {}
    for item in items:
        messages = item.dialogue.messages
        for place in range(1, len(messages), 2):
            found[prompt_text(messages[:place])] = messages[place].content
    return found


def test_who_knows_every_reply_passes_and_who_knows_none_fails(items, references, tmp_path):
    perfect = examine(model_of(Candidate(references.__getitem__)), items, tmp_path / "answers.jsonl", SILENT)
    assert perfect.overall.value == 1.0 and len(perfect.answers) == len(items)
    assert {name: (share.right, share.total) for name, share in perfect.groups.items()} == {skill.name: (3, 3) for skill in SKILLS}
    silent = examine(model_of(Candidate(lambda prompt: "")), items, tmp_path / "answers.jsonl", SILENT)
    assert silent.overall.value == 0.0


def test_a_skill_that_is_missing_is_missed_alone(items, references, tmp_path):
    unknown = {prompt_text(item.dialogue.messages[:-1]) for item in items if item.skill.name == "addition"}
    candidate = Candidate(lambda prompt: "?" if prompt in unknown else references[prompt])
    marks = examine(model_of(candidate), items, tmp_path / "answers.jsonl", SILENT)
    assert {name for name, share in marks.groups.items() if share.right == 0} == {"addition"}
    assert marks.overall.right == len(items) - 3


def test_in_a_dialogue_of_two_turns_the_own_first_reply_is_heard(items, tmp_path):
    candidate = Candidate(lambda prompt: "so far so good")
    examine(model_of(candidate), items, tmp_path / "answers.jsonl", SILENT)
    follow_ups = [item for item in items if len(item.dialogue.messages) == 4]
    assert {item.skill.name for item in follow_ups} == set(TURNS_OF_TWO)
    assert len(candidate.prompts) == len(items) + len(follow_ups)
    for item, prompt in zip(follow_ups, candidate.prompts[len(items) :], strict=True):
        first, reference, second = (message.content for message in item.dialogue.messages[:3])
        assert first in prompt and "so far so good" in prompt and second in prompt and reference not in prompt
    assert candidate.longest == MAX_NEW_TOKENS


def test_the_last_turn_decides(items, references, tmp_path):
    """A wrong first reply costs nothing if the last one is right, and the other way round."""
    follow_ups = [item.dialogue.messages for item in items if len(item.dialogue.messages) == 4]
    firsts = {prompt_text(messages[:1]) for messages in follow_ups}
    wrong = Message(role="assistant", content="?")
    ends = {prompt_text((messages[0], wrong, messages[2])): messages[3].content for messages in follow_ups}
    late = Candidate(lambda prompt: "?" if prompt in firsts else ends.get(prompt) or references[prompt])
    assert examine(model_of(late), items, tmp_path / "answers.jsonl", SILENT).overall.value == 1.0
    seconds = {prompt_text(messages[:3]) for messages in follow_ups}
    early = Candidate(lambda prompt: "?" if prompt in seconds else references[prompt])
    marks = examine(model_of(early), items, tmp_path / "answers.jsonl", SILENT)
    assert {name for name, share in marks.groups.items() if share.right == 0} == set(TURNS_OF_TWO)


def test_the_record_holds_every_question_reply_and_verdict(items, references, tmp_path):
    record = tmp_path / "answers.jsonl"
    marks = examine(model_of(Candidate(lambda prompt: references.get(prompt, "no") if len(prompt) % 2 else "no")), items, record, SILENT)
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").split("\n")[:-1]]
    assert len(lines) == len(items) and sum(line["right"] for line in lines) == marks.overall.right
    assert 0 < marks.overall.right < len(items)
    assert [(line["group"], line["expected"]) for line in lines] == [(item.skill.name, item.answer) for item in items]


def test_every_reference_reply_fits_into_an_answer_and_every_dialogue_into_a_row():
    """With a tokenizer as a run trains it."""
    plan = make_plan(float32_peak=400.0, bfloat16_peak=400.0, minutes=10.0, bundled=True, with_dialogues=True)
    tokenizer = train_tokenizer(generate_documents(0, 300_000), vocab_size=plan.vocab_size, template=TEMPLATE)
    for item in held_out(1, per_skill=20):
        assert len(tokenizer.encode(item.dialogue.messages[-1].content)) < MAX_NEW_TOKENS
        assert len(tokenizer.render(item.dialogue.messages).ids) <= plan.sequence_length


def test_samples_are_the_models_own_replies():
    model = LanguageModel(small_decoder(trained_length=192), small_tokenizer(), family="telechat2")
    opening = (Message(role="system", content="s"), Message(role="user", content="你好"))
    ((*asked, reply),) = sample_dialogues(model, [opening])
    assert tuple(asked) == opening and reply == Message(role="assistant", content=model.chat(list(opening)).text)
