"""``beichen generate``: one prompt, or a file of prompts and dialogues."""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import beichen
from beichen.cli.generate import _all_settings, add_arguments
from beichen.cli.main import main
from beichen.cli.sampling_options import sampling_settings_of
from beichen.inference.answers_file import AnswersFile
from tests.cli.model_folder import model_folder as model_folder

FLAGS = ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", "6"]


def test_one_prompt_is_continued(model_folder, capsys):
    answer = beichen.load(model_folder, device="cpu", dtype="float32").generate("今天", max_new_tokens=6)
    assert main(["generate", str(model_folder), *FLAGS, "--prompt", "今天"]) == 0
    assert capsys.readouterr().out == f"今天{answer.text}\n"
    assert main(["generate", str(model_folder), *FLAGS, "--prompt", "今天", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == answer.text


def test_an_answer_of_a_given_form(model_folder, tmp_path, capsys):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    given = [
        "generate",
        str(model_folder),
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--max-new-tokens",
        "150",
        "--prompt",
        "今天",
        "--json",
    ]
    drawn = ["--temperature", "1.5", "--seed", "1", "--presence-penalty", "0.5"]
    assert main([*given, *drawn, "--json-schema", str(tmp_path / "schema.json")]) == 0
    assert 1 <= json.loads(json.loads(capsys.readouterr().out)["answer"])["n"] <= 99
    assert main([*given, *drawn, "--regex", "[0-9]{3}年"]) == 0
    assert re.fullmatch("[0-9]{3}年", json.loads(capsys.readouterr().out)["answer"])
    for flags, said in (
        (["--regex", "((a{100}){100}){100}"], "regex: with its repetitions written out"),
        (["--regex", "("], "regex: "),
        (["--json-schema", str(tmp_path / "none.json")], "none.json: cannot be read (No such file or directory)"),
        (["--presence-penalty", "3"], "--presence-penalty 3.0: expected from -2 to 2"),
        (["--min-new-tokens", "151"], "--min-new-tokens 151: expected from 0 to max_new_tokens, 150"),
    ):
        assert main([*given, *flags]) == 2
        assert said in capsys.readouterr().err


def test_a_file_comes_back_with_answers(model_folder, tmp_path, capsys):
    records: list[dict[str, Any]] = [{"id": 7, "prompt": "今\u2028天"}, {"messages": [{"role": "user", "content": "hi"}]}, {"prompt": "x"}]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    flags = [*FLAGS, "--temperature", "1", "--seed", "3"]
    assert main(["generate", str(model_folder), *flags, "--input", str(source), "--output", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    lines = [json.loads(line) for line in target.read_text().split("\n")[:-1]]
    assert [{key: line[key] for key in record} for line, record in zip(lines, records, strict=True)] == records
    model = beichen.load(model_folder, device="cpu", dtype="float32")
    assert lines[0]["answer"] == model.generate(records[0]["prompt"], max_new_tokens=6, temperature=1.0, seed=3).text
    assert main(["generate", str(model_folder), *flags, "--input", str(source)]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.rstrip("\n").split("\n")] == lines
    assert main(["generate", str(model_folder), *flags, "--input", str(source), "--output", str(target)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_faults_name_file_and_line(model_folder, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    for content, said in (
        ('{"prompt": "x"}\n{"question": "y"}\n', f"{source}:2: expected"),
        ('{"prompt": ""}\n', f"{source}:1: the prompt is empty"),
        ('{"messages": [{"role": "cook", "content": ""}]}\n', f"{source}:1: message 0"),
        ('{"prompt": "x"\n', f"{source}:1"),
        ('{"prompt": "x", "temperature": "hot"}\n', f'{source}:1: "temperature": expected a number, got "hot"'),
        ('{"prompt": "x", "max_new_tokens": 0}\n', f"{source}:1: max_new_tokens=0: expected 1 or more"),
        ('{"prompt": "x", "max_tokens": -3}\n', f"{source}:1: max_tokens=-3: expected 1 or more"),
        ('{"prompt": "x", "max_tokens": 3, "min_new_tokens": 4}\n', "min_new_tokens=4: expected from 0 to max_tokens, 3"),
        ('{"input": "你好", "temprature": 1}\n', f'{source}:1: "temprature" is no setting (did you mean "temperature"?)'),
        ('{"prompt": "x", "max-tokens": 3}\n', f'{source}:1: "max-tokens" is no setting (did you mean "max_tokens"?)'),
        ('{"prompt": "x", "topK": 3}\n', f'{source}:1: "topK" is no setting (did you mean "top_k"?)'),
        ('{"prompt": "x", "presence_penality": 1}\n', f'{source}:1: "presence_penality" is no setting (did you mean "presence_penalty"?)'),
        ('{"prompt": "x", "answer": "y"}\n', f'{source}:1: the record holds "answer" already'),
    ):
        source.write_text(content)
        for output in ([], ["--output", str(tmp_path / "out.jsonl")]):
            assert main(["generate", str(model_folder), *FLAGS, "--input", str(source), *output]) == 2
            assert said in capsys.readouterr().err
            assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"], "nothing was answered, so nothing is left"
    assert main(["generate", str(model_folder)]) == 2
    assert main(["generate", str(model_folder), "--prompt", "a", "--output", "b"]) == 2


def test_a_fault_of_the_original_is_computed_with_on_request_and_is_no_part_of_what_is_saved(model_folder, tmp_path, capsys):
    exact = beichen.load(model_folder, device="cpu", dtype="float32")
    faulty = beichen.load(model_folder, device="cpu", dtype="float32", compatibility="original_rope")
    ids = list(range(12))
    difference = (exact(ids) - faulty(ids)).abs().max()
    assert 0 < difference < 0.05
    faulty.save(tmp_path / "saved")
    assert (beichen.load(tmp_path / "saved", device="cpu", dtype="float32")(ids) == exact(ids)).all()
    assert main(["generate", str(model_folder), *FLAGS, "--prompt", "今天", "--compatibility", "original_rope"]) == 0
    assert capsys.readouterr().out == f"今天{faulty.generate('今天', max_new_tokens=6).text}\n"
    assert main(["generate", str(model_folder), *FLAGS, "--prompt", "今天", "--compatibility", "original_ropes"]) == 2
    assert "did you mean 'original_rope'" in capsys.readouterr().err


def test_template_and_thinking_go_with_messages(model_folder, tmp_path, capsys):
    line = {"messages": [{"role": "user", "content": "今天"}]}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    given = ["generate", str(model_folder), "--input", str(tmp_path / "in.jsonl"), "--max-new-tokens", "2"]
    assert main([*given, "--template", "telechat"]) == 0
    assert main([*given, "--template", "telechat99"]) == 2
    assert "no chat template is called 'telechat99' (did you mean" in capsys.readouterr().err
    assert main([*given, "--no-thinking"]) == 2
    assert "chat template 'telechat2' has no thinking to switch" in capsys.readouterr().err
    assert main(["generate", str(model_folder), "--prompt", "今天", "--template", "telechat"]) == 2
    assert "go with messages" in capsys.readouterr().err


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_what_else_a_record_holds_is_its_own(model_folder, tmp_path, capsys):
    """Names that are near to a setting's, but far enough to be something else."""
    others = (
        "id",
        "metadata",
        "topic",
        "step",
        "seen",
        "tokens",
        "num_tokens",
        "total_tokens",
        "min_tokens",
        "completion_tokens",
        "schema",
    )
    record = {"prompt": "今天", **{key: place for place, key in enumerate(others)}}
    (tmp_path / "in.jsonl").write_text(json.dumps(record) + "\n")
    assert main(["generate", str(model_folder), *FLAGS, "--input", str(tmp_path / "in.jsonl")]) == 0
    assert record.items() <= json.loads(capsys.readouterr().out).items()


def test_mindformers_lines_and_settings_of_records(model_folder, tmp_path):
    records: list[dict[str, Any]] = [
        {"input": "今天"}, {"prompt": "今天", "max_tokens": 3}, {"prompt": "今天", "temperature": 1.5, "seed": 8},
        {"prompt": "n", "regex": "[0-9]{3}"},
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    given = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"), "--answer-key", "said"]
    assert main(["generate", str(model_folder), *FLAGS, *given]) == 0
    model = beichen.load(model_folder, device="cpu", dtype="float32")
    answers = lines_of(tmp_path / "out.jsonl")
    assert answers[0]["said"] == model.chat([{"role": "user", "content": "今天"}], max_new_tokens=6).text
    own = model.generate("今天", max_new_tokens=3)
    assert (answers[1]["said"], answers[1]["finish_reason"]) == (own.text, own.finish_reason)
    assert answers[1]["usage"]["completion_tokens"] == len(own.ids)
    assert answers[2]["said"] == model.generate("今天", max_new_tokens=6, temperature=1.5, seed=8).text
    assert re.fullmatch("[0-9]{3}", answers[3]["said"]) and answers[3]["finish_reason"] == "stop"


def test_bad_records_are_put_aside_where_that_is_asked_for(model_folder, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": ""}\nnothing\n{"prompt": "b"}\n', "utf-8")
    given = ["generate", str(model_folder), *FLAGS, "--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert f"{source}:2: the prompt is empty" in said and f"{source}:3: not JSON" in said and "--skip-bad" in said
    assert main([*given, "--skip-bad", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["answers"], told["faults"]) == (2, 2)
    assert [line["prompt"] for line in lines_of(tmp_path / "out.jsonl")] == ["a", "b"]
    faults = lines_of(tmp_path / "out.faults.jsonl")
    assert [(fault["file"], fault["line"]) for fault in faults] == [(str(source), 2), (str(source), 3)]
    assert (faults[0]["question"], faults[1]["raw"]) == ({"prompt": ""}, "nothing")


@pytest.mark.parametrize("seed", range(3))
def test_bad_lines_come_in_the_order_of_the_file_with_what_stood_there(model_folder, tmp_path, capsys, seed):
    rng = random.Random(seed)
    good, empty = b'{"prompt": "a", "max_tokens": 1}', b'{"prompt": ""}'
    kinds = [good, empty, b"nothing", b"[1]", b"\xff" + "好".encode() * 2000]
    source, lines = tmp_path / "in.jsonl", [good, *(rng.choice(kinds) for _ in range(12))]
    source.write_bytes(b"\n".join(lines) + b"\n")
    given = ["--input", str(source), "--output", str(tmp_path / "out.jsonl"), "--skip-bad"]
    assert main(["generate", str(model_folder), *FLAGS, *given]) == 0
    bad = [number for number, line in enumerate(lines, 1) if line != good]
    told = re.findall(rf"{re.escape(str(source))}:([0-9]+): (?:the prompt|not JSON|a list|.*UTF-8)", capsys.readouterr().err)
    assert list(map(int, told)) == bad[:10]
    faults = lines_of(tmp_path / "out.faults.jsonl")
    assert [fault["line"] for fault in faults] == bad
    for fault in faults:
        line = lines[fault["line"] - 1]
        assert fault.get("question") == {"prompt": ""} if line == empty else fault["raw"] == line.decode("utf-8", "replace")[:1000]


def test_a_command_that_goes_on_names_bad_records_again(model_folder, tmp_path, capsys, monkeypatch):
    """Those of the journal and those of lines that are none, in the order of the file."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": ""}\nnothing\n{"prompt": "b", "top_p": 7}\n', "utf-8")
    given = ["generate", str(model_folder), *FLAGS, "--input", str(source), "--output", str(tmp_path / "out.jsonl")]

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    def named() -> list[str]:
        return re.findall(rf"warning: {re.escape(str(source))}:([0-9]+):", capsys.readouterr().err)

    with monkeypatch.context() as patch:
        patch.setattr(AnswersFile, "finish", stopped)
        assert main([*given, "--skip-bad"]) == 130
    assert named() == ["2", "3", "4"]
    assert main(given) == 2 and named() == ["3", "4"], "the error itself names the first"
    assert main([*given, "--skip-bad"]) == 0
    assert named() == ["2", "3", "4"]
    assert [fault["line"] for fault in lines_of(tmp_path / "out.faults.jsonl")] == [2, 3, 4]


def test_openai_batch_lines(model_folder, tmp_path):
    body: dict[str, Any] = {"model": model_folder.name, "messages": [{"role": "user", "content": "今天"}], "max_tokens": 4}
    line = {"custom_id": "x-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    given = ["generate", str(model_folder), *FLAGS, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert main(given) == 0
    [answer] = lines_of(tmp_path / "out.jsonl")
    choice = answer["response"]["body"]["choices"][0]
    model = beichen.load(model_folder, device="cpu", dtype="float32")
    assert answer["custom_id"] == "x-1" and answer["error"] is None and answer["response"]["body"]["usage"]["completion_tokens"] == 4
    assert choice["message"]["content"] == model.chat(body["messages"], max_new_tokens=4).text
    assert answer["response"]["body"]["model"] == model_folder.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "gpt-4o"}, "body.model: there is no model 'gpt-4o'; this file is answered by 'small'"),
        ({"messages": [{"role": "user", "content": "天" * 999}]}, "body.messages: it has"),
        ({"temprature": 1}, "body.temprature: unknown field (did you mean 'temperature'?)"),
        ({"messages": "hi"}, "body.messages: a string; expected a list"),
    ],
)
def test_a_batch_line_is_refused_as_the_server_refuses_it(model_folder, tmp_path, capsys, changes, said):
    body = {"model": model_folder.name, "messages": [{"role": "user", "content": "今天"}], "max_tokens": 4}
    lines = [{"custom_id": f"x-{number}", "body": one} for number, one in enumerate((body, {**body, **changes}))]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["generate", str(model_folder), *FLAGS, "--input", str(source), "--output", str(output)]
    assert main(given) == 2
    assert f"{source}:2: {said}" in (told := capsys.readouterr().err) and "max-model-len" not in told
    assert main([*given, "--skip-bad"]) == 0
    assert [answer["custom_id"] for answer in lines_of(output)] == ["x-0"]
    [fault] = lines_of(tmp_path / "out.faults.jsonl")
    assert said in fault["fault"] and fault["line"] == 2


CHANGES = (
    "--quantize int8", "--template telechat", "--thinking", "--temperature 0.5", "--seed 1", "--stop a", "--max-new-tokens 9", "--regex a",
    "--answer-key a", "--compatibility a",
)  # fmt: skip


@pytest.mark.parametrize("flags", CHANGES)
def test_whatever_changes_answers_is_kept_with_them(model_folder, flags):
    """So that a command with another flag never goes on with the answers of this one."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    model = beichen.load(model_folder, device="cpu", dtype="float32")
    plain, other = (
        _all_settings(model, given, sampling_settings_of(given))
        for given in map(parser.parse_args, ([str(model_folder)], [str(model_folder), *flags.split()]))
    )
    assert plain != other


def test_a_killed_command_goes_on_where_it_was(model_folder, tmp_path, capsys):
    """Killed with SIGKILL while it answers; the same command then gives what one that was never killed gives."""
    source, whole, cut = tmp_path / "in.jsonl", tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"{number}天", "max_tokens": 1 + number % 20}) + "\n" for number in range(120)))
    given = ["generate", str(model_folder), *FLAGS, "--temperature", "1", "--seed", "5", "--input", str(source), "--output"]
    assert main([*given, str(whole)]) == 0
    journal = cut.with_name("cut.jsonl.partial")
    process = subprocess.Popen([sys.executable, "-m", "beichen", *given, str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not cut.exists()
    kept = journal.read_bytes().count(b"\n") - 1
    assert 0 < kept < 120
    assert main([*given, str(cut), "--temperature", "0.5"]) == 2
    assert "temperature was 1.0 and is 0.5" in capsys.readouterr().err
    assert main([*given, str(cut), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == kept
    assert cut.read_bytes() == whole.read_bytes() and not journal.exists()
    assert len(lines_of(cut)) == 120
