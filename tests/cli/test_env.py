"""``beichen env``: what a bug report needs."""

from __future__ import annotations

import json

from beichen.cli.main import main


def test_text_and_json_tell_the_same(capsys):
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    for value in (*facts["versions"].values(), facts["hardware"]["cpu"], facts["default_dtype"], *facts["devices"]):
        assert value in text
    assert facts["matmul_peak_gflops"] == {}
