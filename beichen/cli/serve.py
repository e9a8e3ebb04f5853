"""Serves a checkpoint folder to OpenAI's clients: chat and text completions, whole or streamed, tools, constraints, embeddings.

beichen serve runs/quickstart-001
beichen serve telechat2-7b --host 0.0.0.0 --port 8000 --api-key-file keys.txt --kv-memory 8GiB
beichen serve telechat2-7b --engine vllm --vllm-option tensor-parallel-size=4
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.limit_options import add_limit_options, open_log, read_limits, reporter_of
from beichen.cli.options import add_base_option, add_compute_options, add_quantize_option
from beichen.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    import uvicorn

    from beichen.serve.limits import Limits

LOCAL = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a checkpoint folder with a tokenizer, or an adapter")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s; 0 takes a free one")
    parser.add_argument("--ui", action="store_true", help="a chat page for browsers at the same address")
    parser.add_argument("--root-path", default="", metavar="PATH", help="the path under which a proxy in front shows this server")
    parser.add_argument("--original-paths", action="store_true", help="the paths of TeleChat's and NDL's own services, too")
    parser.add_argument("--name", help="what clients call the model (default: the folder's name)")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=DIR", help="an adapter over the model, which clients call NAME; repeatable"
    )
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="keys that clients must show, one a line")
    parser.add_argument("--template", metavar="NAME", help="another chat format than the folder's, by name")
    parser.add_argument("--kv-memory", default="2GiB", metavar="SIZE", help="memory of the key-value cache (default %(default)s)")
    parser.add_argument("--max-rows", type=int, default=64, metavar="N", help="requests that run at a time (default %(default)s)")
    parser.add_argument(
        "--step-tokens", type=int, default=512, metavar="N", help="prompt tokens read between two tokens of an answer (default %(default)s)"
    )
    parser.add_argument(
        "--draft-from-text", action="store_true", help="guess several tokens ahead from the text itself; answers stay the same"
    )
    parser.add_argument("--draft-model", type=Path, metavar="DIR", help="the same by a small model with the same tokenizer")
    parser.add_argument("--draft-tokens", type=int, default=4, metavar="N", help="tokens guessed at a time (default %(default)s)")
    parser.add_argument(
        "--engine", choices=("beichen", "vllm"), default="beichen",
        help="who computes: vllm hands the same folder over to vLLM, for several devices (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--vllm-option", action="append", default=[], metavar="NAME[=VALUE]", help="of --engine vllm: an option of vLLM's own; repeatable"
    )
    parser.add_argument("--allow-special", action="store_true", help="let raw completions hold control tokens where they ask for it")
    add_limit_options(parser)
    add_compute_options(parser)
    add_base_option(parser)
    add_quantize_option(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.port > 65535:
        raise SettingsError(f"--port {arguments.port}: expected 0 to 65535")
    for name, least in (("port", 0), ("max_rows", 1), ("step_tokens", 1), ("draft_tokens", 1)):
        if getattr(arguments, name) < least:
            raise SettingsError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: expected {least} or more")
    if arguments.draft_from_text and arguments.draft_model is not None:
        raise SettingsError("--draft-from-text and --draft-model both say who guesses: give one")
    root_path = arguments.root_path.rstrip("/")
    if root_path and not root_path.startswith("/"):
        raise SettingsError(f"--root-path {arguments.root_path}: expected /like/this")
    if arguments.engine == "vllm":
        from beichen.cli.serve_vllm import run_vllm

        return run_vllm(arguments)
    if arguments.vllm_option:
        raise SettingsError("--vllm-option goes with --engine vllm", remedy="add --engine vllm, or leave it out")
    with _ended_by_sigterm():
        return _serve(arguments, root_path)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Until the server takes signals itself, SIGTERM ends the command with exit code 0, as it does later: whoever stops a server that is
    still loading sees no failure; and the first process of a container would not hear it at all."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(arguments: argparse.Namespace, root_path: str) -> int:
    try:
        from uvicorn.config import LOGGING_CONFIG

        from beichen.serve.app import create_app
        from beichen.serve.running import Server
    except ImportError as fault:
        raise MissingExtraError(str(fault.name), extra="serve", purpose="beichen serve") from fault
    from beichen.inference.draft_choice import drafting_by_model, drafting_from_text
    from beichen.inference.language_model import load
    from beichen.serve.access import Keys
    from beichen.serve.service import Service
    from beichen.util.device import set_threads
    from beichen.util.memory import forget_old_shapes
    from beichen.util.quantities import parse_bytes

    limits = read_limits(arguments)
    try:
        kv_bytes = parse_bytes(arguments.kv_memory)
    except ValueError as fault:
        raise SettingsError(f"--kv-memory: {fault}") from fault
    keys = Keys(read_api_keys(arguments))
    name = arguments.name or arguments.folder.resolve().name
    adapters = read_adapters(arguments.adapter, name)
    listener = _listener(arguments.host, arguments.port, limits.stall_seconds)
    set_threads(arguments.threads)
    forget_old_shapes()
    _check_small_files(arguments, limits, kv_bytes)
    model = load(
        arguments.folder, device=arguments.device, dtype=arguments.dtype, compatibility=arguments.compatibility,
        template=arguments.template, base=arguments.base, quantize=arguments.quantize, adapters=adapters, reporter=reporter_of(arguments),
    )  # fmt: skip
    if arguments.draft_from_text:
        drafting = drafting_from_text(tokens=arguments.draft_tokens)
    elif arguments.draft_model is not None:
        drafting = drafting_by_model(model, arguments.draft_model, tokens=arguments.draft_tokens, reporter=reporter_of(arguments))
    else:
        drafting = None
    model.generator.resize(max_rows=arguments.max_rows, kv_bytes=kv_bytes, step_tokens=arguments.step_tokens, drafting=drafting)
    service = Service(model, name, limits=limits)
    if service.max_model_len < (limits.max_model_len or model.max_length):
        reporter_of(arguments).warn(f"prompt and answer together have at most {service.max_model_len} tokens: all that --kv-memory holds")
    log = open_log(arguments)
    app = create_app(
        service,
        keys=keys,
        allow_special=arguments.allow_special,
        ui=arguments.ui,
        log=log,
        root_path=root_path,
        original_paths=arguments.original_paths,
    )

    def ends(answers: int) -> None:
        if answers:
            words = f"{answers} {'answer' if answers == 1 else 'answers'} on the way"
            reporter_of(arguments).line(f"ending: {words}, {limits.shutdown_seconds:g} seconds at most; once more Ctrl-C ends at once")

    server = Server(app, service, at_once=lambda number: os._exit(128 + number), ends=ends, log_config=None if log else LOGGING_CONFIG)
    announce = threading.Thread(target=_announce, args=(server, listener, service.name, arguments.ui), daemon=True)
    announce.start()
    gc.freeze()  # what is loaded stays: looking through it for garbage stops all answers for a tenth of a second, and delays the end
    server.run(sockets=[listener])
    if log is not None:
        log.close()
    if server.cut_off:
        words = "1 answer was" if server.cut_off == 1 else f"{server.cut_off} answers were"
        reporter_of(arguments).warn(f"{words} cut off after {limits.shutdown_seconds:g} seconds")
    return 0 if server.started else 1


def _check_small_files(arguments: argparse.Namespace, limits: Limits, kv_bytes: int) -> None:
    """What the folders' small files tell of the flags, before any weights are read."""
    from beichen.inference.cache_budget import check_bytes
    from beichen.inference.draft_choice import check_draft
    from beichen.inference.model_folder import open_folder
    from beichen.util.device import choose_device, choose_dtype, memory_of

    reporter, wanted = reporter_of(arguments), limits.max_model_len
    opened = open_folder(arguments.folder, base=arguments.base, reporter=reporter)
    try:
        device = choose_device(arguments.device)
        check_bytes(kv_bytes, opened.config, choose_dtype(arguments.dtype, device), most_tokens=wanted, memory=memory_of(device))
    except SettingsError as fault:
        raise SettingsError(f"--kv-memory {arguments.kv_memory}: {fault.args[0]}", remedy=fault.remedy) from fault
    trained = opened.config.max_position_embeddings
    if wanted is not None and wanted > trained:
        reporter.warn(f"--max-model-len {wanted}: the model was trained on {trained} tokens, and beyond them answers may get worse")
    if arguments.draft_model is not None:
        tokenizer = opened.tokenizer()
        if tokenizer is not None:  # else the model itself says that it has none
            check_draft(arguments.draft_model, tokenizer, origin=opened.beside)


def read_api_keys(arguments: argparse.Namespace) -> list[str]:
    """The keys of --api-key-file; without any, a warning where others than this machine can come in."""
    from beichen.serve.access import read_keys

    if arguments.api_key_file is not None:
        return read_keys(arguments.api_key_file)
    if arguments.host not in LOCAL:
        place = f"{arguments.host}:{arguments.port}"
        reporter_of(arguments).warn(f"anybody who reaches {place} can use this model: --api-key-file asks for keys")
    return []


def read_adapters(given: list[str], base: str) -> dict[str, str]:
    """NAME=DIR, several times -> folders by name."""
    found: dict[str, str] = {}
    for one in given:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise SettingsError(f"--adapter {one}: expected NAME=DIR")
        if name in found or name == base:
            raise SettingsError(f"--adapter {one}: '{name}' is the name of another model already")
        found[name] = folder
    return found


def _listener(host: str, port: int, stall_seconds: float) -> socket.socket:
    """The address, taken before any weights are read."""
    from beichen.serve.running import listen

    try:
        return listen(host, port, stall_seconds=stall_seconds)
    except OSError as fault:
        raise SettingsError(f"--host {host} --port {port}: {fault.strerror}", remedy="take another port; 0 finds a free one") from fault


def _announce(server: uvicorn.Server, listener: socket.socket, name: str, ui: bool) -> None:
    """Say where to knock, once the door is open."""
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.02)
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    page = f", chat page at http://{place}:{port}/" if ui else ""
    print(f"serving {name} at http://{place}:{port}/v1{page}  (Ctrl-C ends; what runs is finished first)", flush=True)
