"""One contender of the serving bench as a process: ``python serving_contender.py KIND PLACE VOCABULARY [OPTIONS as JSON]``.

It loads its model, says {"ready": ...}, then answers each line {"rows", "prompt", "new", "seed"} by {"seconds", "ids"}: greedy, ``new`` ids
for each of ``rows`` random prompts. Peers run it in an environment of their own, so nothing but their own packages is imported here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Ids = list[list[int]]
Answer = Callable[[Ids, int], Ids]  # prompts, new ids -> ids


def ours(place: str, options: dict[str, Any]) -> Answer:
    """Beichen's engine, without a server."""
    from beichen.inference.api import Request
    from beichen.inference.generation import DecoderGenerator
    from beichen.inference.language_model import load
    from beichen.util.memory import keep_freed_memory

    keep_freed_memory()
    generator = DecoderGenerator(load(place, dtype="bfloat16").decoder, None, **options)

    def answer(prompts: Ids, new: int) -> Ids:
        return [list(one.ids) for one in generator.generate([Request(prompt_ids=prompt, max_new_tokens=new) for prompt in prompts])]

    return answer


def transformers(place: str, options: dict[str, Any]) -> Answer:
    """``generate`` of transformers."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(place, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    if options.pop("compiled", False):
        model.forward = torch.compile(model.forward)

    @torch.inference_mode()
    def answer(prompts: Ids, new: int) -> Ids:
        ids = torch.tensor(prompts)
        keywords = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
        found: Ids = model.generate(ids, attention_mask=torch.ones_like(ids), **keywords)[:, ids.shape[1] :].tolist()
        return found

    return answer


def vllm(place: str, options: dict[str, Any]) -> Answer:
    """vLLM's offline engine."""
    from vllm import LLM, SamplingParams

    model = LLM(place, dtype="bfloat16", skip_tokenizer_init=True, disable_log_stats=True, seed=0, **options)

    def answer(prompts: Ids, new: int) -> Ids:
        settings = SamplingParams(temperature=0.0, max_tokens=new, min_tokens=new, ignore_eos=True, detokenize=False)
        told = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], settings, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in told]

    return answer


class LlamaCpp:
    """llama.cpp by its C interface: all rows in one batch a step, the likeliest id by numpy."""

    def __init__(self, place: str, vocabulary: int, *, threads: int, flash: bool, ubatch: int = 512) -> None:
        import llama_cpp

        self.api, self.vocabulary = llama_cpp, vocabulary
        self.threads, self.flash, self.ubatch = threads, flash, ubatch
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(place.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"{place}: llama.cpp cannot load it")
        self._context: Any = None
        self._shape = (0, 0)

    def prepare(self, rows: int, length: int) -> None:
        """A context for so many sequences of so many ids."""
        if self._shape == (rows, length):
            return
        if self._context is not None:
            self.api.llama_free(self._context)
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = rows * -(-length // 256) * 256, rows
        parameters.n_batch, parameters.n_ubatch = max(2048, rows), self.ubatch
        parameters.n_threads = parameters.n_threads_batch = self.threads
        parameters.flash_attn_type = 1 if self.flash else 0
        parameters.no_perf = True
        self._context = self.api.llama_init_from_model(self.model, parameters)
        self._batch = self.api.llama_batch_init(max(2048, rows), 0, 1)
        self._shape = (rows, length)

    def answer(self, prompts: Ids, new: int) -> Ids:
        """``prepare`` has been called."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self._context), False)
        found: Ids = [[] for _ in prompts]
        entries = [
            (token, place, row, place == len(prompt) - 1) for row, prompt in enumerate(prompts) for place, token in enumerate(prompt)
        ]
        for begin in range(0, len(entries), 2048):
            for row, token in self._decode(entries[begin : begin + 2048]):
                found[row].append(token)
        length = len(prompts[0])
        for step in range(new - 1):
            for row, token in self._decode([(ids[-1], length + step, row, True) for row, ids in enumerate(found)]):
                found[row].append(token)
        return found

    def _decode(self, entries: list[tuple[int, int, int, bool]]) -> list[tuple[int, int]]:
        batch = self._batch
        batch.n_tokens = len(entries)
        for number, (token, place, row, last) in enumerate(entries):
            batch.token[number], batch.pos[number], batch.n_seq_id[number] = token, place, 1
            batch.seq_id[number][0], batch.logits[number] = row, last
        if self.api.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = [row for _, _, row, last in entries if last]
        if not rows:
            return []
        logits = np.ctypeslib.as_array(self.api.llama_get_logits(self._context), shape=(len(rows), self.vocabulary))
        return list(zip(rows, logits.argmax(1).tolist(), strict=True))


def random_prompts(rows: int, length: int, seed: int, *, vocabulary: int) -> Ids:
    """New ones at every turn, so that nobody finds them in a cache."""
    prompts: Ids = np.random.default_rng([seed, rows, length]).integers(0, vocabulary, (rows, length)).tolist()
    return prompts


def main() -> None:
    """Serve the parent's questions until it ends."""
    kind, place, vocabulary = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    server = LlamaCpp(place, vocabulary, **options) if kind == "llama.cpp" else None
    answer = server.answer if server else {"ours": ours, "transformers": transformers, "vllm": vllm}[kind](place, options)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        asked = json.loads(line)
        prompts = random_prompts(asked["rows"], asked["prompt"], asked["seed"], vocabulary=vocabulary)
        if server:
            server.prepare(asked["rows"], asked["prompt"] + asked["new"])
        begin = time.perf_counter()
        ids = answer(prompts, asked["new"])
        print(json.dumps({"seconds": time.perf_counter() - begin, "ids": ids}), file=out, flush=True)


if __name__ == "__main__":
    main()
