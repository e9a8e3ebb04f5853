"""``beichen serve --engine vllm``: this process becomes vLLM, over a folder that it computes as Beichen does."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace
from typing import Any

from beichen.cli.terminal import make_reporter
from beichen.errors import SettingsError

MAPPED = frozenset({"folder", "host", "port", "name", "api_key_file", "template", "max_model_len", "kv_memory", "max_rows", "step_tokens",
                    "dtype", "threads", "engine", "vllm_option", "draft_tokens", "adapter"})  # fmt: skip


def run_vllm(arguments: argparse.Namespace) -> int:
    """Does not return, unless something is wrong."""
    from beichen.checkpoints.hubs import find_folder
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.cli.serve import read_adapters, read_api_keys
    from beichen.inference.vllm.adapters import adapters_for_vllm
    from beichen.inference.vllm.lengths import words_for_length
    from beichen.inference.vllm.serving import (
        HERE_ALONE,
        VllmOptions,
        command_of,
        config_for_vllm,
        environment_of,
        export_cache,
        find_vllm,
        folder_for_vllm,
        read_more,
        write_chat_template,
    )
    from beichen.util.quantities import parse_bytes

    usual = _usual_options()
    changed = {name: value for name, value in vars(arguments).items() if value != usual.get(name)}
    for name in changed:
        if name not in MAPPED:
            reason = HERE_ALONE.get(name, "vLLM has nothing that means the same")
            raise SettingsError(f"--{name.replace('_', '-')} goes with --engine beichen alone", remedy=f"leave it out: {reason}")
    if arguments.port == 0:
        raise SettingsError("--port 0: vLLM does not look for a free one", remedy="name a port")
    try:
        kv_bytes = parse_bytes(arguments.kv_memory) if "kv_memory" in changed else None
    except ValueError as fault:
        raise SettingsError(f"--kv-memory: {fault}") from fault
    name = arguments.name or arguments.folder.resolve().name
    named = read_adapters(arguments.adapter, name)
    options = VllmOptions(
        name=name, host=arguments.host, port=arguments.port, kv_bytes=kv_bytes, max_rows=changed.get("max_rows"),
        step_tokens=changed.get("step_tokens"), dtype=arguments.dtype, threads=arguments.threads, keys=read_api_keys(arguments),
        more=read_more(arguments.vllm_option),
    )  # fmt: skip
    environment_of(options, os.environ)  # keys that vLLM cannot take are refused before anything is written
    program = find_vllm()
    cache, reporter = export_cache(), make_reporter()
    base = find_folder(arguments.folder, reporter=reporter)
    length = words_for_length(config_for_vllm(base)[0], arguments.max_model_len, base)
    folder = folder_for_vllm(base, cache, reporter=reporter)
    tokenizer = load_tokenizer(arguments.folder, template=arguments.template)
    adapters = None
    if named:
        adapters = adapters_for_vllm(named, base, folder, cache, tokenizer=tokenizer, template=arguments.template, reporter=reporter)
    options = replace(options, length=length, adapters=adapters)
    template = write_chat_template(tokenizer, cache)
    command = command_of(program, folder, options, chat_template=template)
    reporter.line("vLLM: " + shlex.join(command))
    os.execvpe(command[0], command, environment_of(options, os.environ))


def _usual_options() -> dict[str, Any]:
    """What options are when nobody gives them."""
    from beichen.cli.serve import add_arguments

    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return vars(parser.parse_args(["."]))
