"""``beichen generate``: one prompt, or a file of prompts and dialogues."""

from __future__ import annotations

import json
import re
from typing import Any

import beichen
from beichen.cli.main import main
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
        (["--json-schema", str(tmp_path / "none.json")], "none.json: cannot be read as JSON"),
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
    ):
        source.write_text(content)
        assert main(["generate", str(model_folder), *FLAGS, "--input", str(source)]) == 2
        assert said in capsys.readouterr().err
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
