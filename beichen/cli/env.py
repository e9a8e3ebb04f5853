"""example: beichen env --json > env.json"""

from __future__ import annotations

import argparse
from typing import Any

from beichen.cli.options import add_json_option
from beichen.cli.terminal import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--measure", action="store_true", help="also measure the machine's matmul peak (about ten seconds)")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    facts = _facts(measure=arguments.measure)
    if arguments.json:
        print_json(facts)
        return 0
    from beichen.util.quantities import byte_count

    hardware = facts["hardware"]
    memory, sets = hardware["memory_bytes"], hardware["instruction_sets"]
    rows = {
        **facts["versions"],
        "system": hardware["system"],
        "cpu": f"{hardware['cpu']}, {hardware['cores']} usable cores",
        "instruction sets": ", ".join(sets) or "not known",
        "memory": byte_count(memory) if memory else "not known",
        "compiler": hardware["compiler"] or "none: some parts run more slowly",
        "compiled kernels": facts["kernels"]["reason"],
        "devices": ", ".join(facts["devices"]),
        "number format": f"{facts['default_dtype']} on {facts['default_device']} unless told otherwise",
        **{f"matmul peak {name}": f"{value:.0f} GFLOP/s" for name, value in facts["matmul_peak_gflops"].items()},
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


def _facts(*, measure: bool) -> dict[str, Any]:
    import torch

    from beichen.nn.kernels import status
    from beichen.util.device import available_devices, choose_device, choose_dtype, set_threads
    from beichen.util.machine import hardware_facts, measure_matmul_peak, software_facts

    device, kernels = choose_device(), status()
    peaks: dict[str, float] = {}
    if measure:
        set_threads()
        peaks = {str(dtype).removeprefix("torch."): measure_matmul_peak(dtype, device=device) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "versions": software_facts(),
        "hardware": hardware_facts(),
        "kernels": {"available": kernels.available, "reason": kernels.reason},
        "devices": available_devices(),
        "device_names": _device_names(),
        "default_device": str(device),
        "default_dtype": str(choose_dtype(None, device)).removeprefix("torch."),
        "matmul_peak_gflops": peaks,
    }


def _device_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
