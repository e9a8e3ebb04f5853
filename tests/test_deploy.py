"""The files of ``deploy/`` ask ``beichen serve`` for what it has."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from beichen.cli.serve import add_arguments

DEPLOY = Path(__file__).parents[1] / "deploy"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    return parser.parse_args(words)


def test_the_container_starts_a_server_that_its_health_check_finds():
    text = (DEPLOY / "Dockerfile").read_text()
    command = [word for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE) for word in json.loads(found)]
    assert command[:2] == ["beichen", "serve"]
    options = parse(command[2:])
    assert (str(options.folder), options.host) == ("/model", "0.0.0.0")
    assert f"http://127.0.0.1:{options.port}/health" in text and re.search(rf"^EXPOSE {options.port}$", text, re.MULTILINE)
    assert re.search(r"^USER 10001$", text, re.MULTILINE) and 'TORCH="torch==2.13.0"' in text


def test_the_unit_starts_a_server_with_keys_and_waits_for_its_answers():
    text = (DEPLOY / "beichen.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    words = command.replace("$OPTIONS", "--host 0.0.0.0 --kv-memory 8GiB").replace("${MODEL}", "/m").split()
    assert words[1] == "serve"
    options = parse(words[2:])
    assert str(options.api_key_file).endswith("/keys") and "LoadCredential=keys:" in text
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > 30  # within which serve finishes what runs


def test_the_proxy_lets_through_what_the_server_takes():
    """nginx's own bounds are the server's defaults, and a stream is not held back."""
    text = (DEPLOY / "nginx.conf").read_text()
    defaults = parse(["/m"])
    assert f"client_max_body_size {defaults.max_body_bytes >> 20}m;" in text
    assert f"proxy_read_timeout {defaults.request_seconds:g}s;" in text and "proxy_buffering off;" in text
    assert f"proxy_pass http://{defaults.host}:{defaults.port};" in text


def test_both_languages_give_the_same_commands():
    blocks = [
        re.findall(r"^```\n(.*?)^```$", (DEPLOY / name).read_text(), re.MULTILINE | re.DOTALL) for name in ("README.md", "README.zh.md")
    ]
    bare = [[re.sub(r" +#.*", "", block) for block in found] for found in blocks]
    assert bare[0] == bare[1] and len(bare[0]) == 2
