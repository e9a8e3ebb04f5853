"""Without more words: every published size, its parameters (total; active: what one token meets; without embedding and head) and
licence. With a checkpoint folder, a config file or the name of a size, what that one is. Nothing is loaded.

beichen models
beichen models telechat2-7b
beichen models show runs/quickstart-001
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_json_option
from beichen.cli.terminal import print_json
from beichen.errors import SettingsError, nearest

if TYPE_CHECKING:
    from beichen.models.family import Family
    from beichen.models.licence import Licence
    from beichen.models.presets import Preset
    from beichen.nn.config import DecoderConfig

OF_PUBLISHED = "licences of the published weights:"
OF_A_FOLDER = "licence of the family's published weights and of what was made from them, not of a model trained from nothing:"
COLUMNS = ("total", "active", "non-embedding", "active non-embedding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="[show] MODEL", help="a checkpoint folder, a config file, or a size by name; default: all"
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or what one config describes."""
    words: list[str] = arguments.words
    named = words[1:] if words[:1] == ["show"] else words
    if len(named) > 1 or (words and not named):
        raise SettingsError(f"beichen models {' '.join(words)}: give one model", remedy="beichen models telechat2-7b")
    if named and words != ["list"]:
        return _show(named[0], as_json=arguments.json)
    from beichen.models.presets import presets
    from beichen.models.registry import FAMILIES, load_family

    rows = [_facts(preset) for preset in presets()]
    families = [load_family(name) for name in FAMILIES]
    if arguments.json:
        print_json({"models": rows, "families": {family.name: _terms(family) for family in families}})
    else:
        print("\n".join([*_table(rows), "", *_notes(families)]))
    return 0


def _show(path: str, *, as_json: bool) -> int:
    from beichen.checkpoints.hubs.folders import hub_name
    from beichen.checkpoints.inspection import describe
    from beichen.checkpoints.loading import load_config
    from beichen.models.presets import presets
    from beichen.models.registry import load_family

    sizes = {preset.name: preset for preset in presets()}
    if Path(path).exists() or hub_name(path):
        config = load_config(path)[0]  # an error for a config that is not understood
        facts = describe(path)
    elif path.lower() in sizes:
        preset = sizes[path.lower()]
        config, facts = preset.config, _facts(preset)
    else:
        raise SettingsError(f"{path}: no such folder, file or size{nearest(path, sizes)}", remedy="`beichen models` lists the sizes")
    family = load_family(facts["family"])
    if as_json:
        print_json(facts | _terms(family, config))
        return 0
    from beichen.cli.inspect import shown

    width = max(map(len, facts))
    published = "licence" in facts  # a size by name; what the weights of a folder were made from is not told there
    lines = [f"{key.replace('_', ' '):<{width}}  {shown(value)}" for key, value in facts.items()]
    print("\n".join([*lines, "", *_notes([family], config, published=published)]))
    return 0


def _facts(preset: Preset) -> dict[str, Any]:
    from beichen.models.presets import count_parameters

    config = preset.config
    counts = count_parameters(config)
    return {
        "name": preset.name,
        "family": preset.family.name,
        "parameters": counts.total,
        "active_parameters": counts.active,
        "non_embedding_parameters": counts.non_embedding,
        "active_non_embedding_parameters": counts.active_non_embedding,
        "ignorable_scalars": len(preset.family.names.constant_scalars(config)),
        "trained_length": config.max_position_embeddings,
        "licence": preset.family.licence.name,
    }


def _table(rows: Iterable[dict[str, Any]]) -> list[str]:
    cells = [("model", "family", *COLUMNS, "trained length")]
    for row in rows:
        figures = [f"{row[key]:,}" for key in row if key.endswith("parameters")]
        cells.append((row["name"], row["family"], *figures, f"{row['trained_length']:,}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if number < 2 else f"{cell:>{width}}" for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def _terms(family: Family, config: DecoderConfig | None = None) -> dict[str, Any]:
    """config: of the one model that is shown; else of any."""
    licence = family.licence
    return {
        "licence": {"name": licence.name, "commercial_use": licence.commercial_use, "conditions": list(licence.conditions)},
        "compatibility": {name: fault.summary for name, fault in family.compatibility.items()},
        "layouts": ["published", *(family.layouts if config is None else family.layouts_of(config))],
    }


def _notes(families: Iterable[Family], config: DecoderConfig | None = None, *, published: bool = True) -> list[str]:
    """What a person who uses their weights should know. config: of the one model that is shown; published: whether it is known to be one of
    theirs."""
    families = list(families)
    by_licence: dict[Licence, list[str]] = {}
    for family in families:
        by_licence.setdefault(family.licence, []).append(family.name)
    lines = [OF_PUBLISHED if published else OF_A_FOLDER]
    for licence, names in by_licence.items():
        lines += [f"  {', '.join(names)}: {licence.name}; commercial use: {licence.commercial_use}"]
        lines += [f"    - {condition}" for condition in licence.conditions]
    faults = [(family.name, name, fault.summary) for family in families for name, fault in family.compatibility.items()]
    if faults:
        lines += ["", "compatibility with faults of the originals (--compatibility NAME):"]
        lines += [f"  {family}, {name}: {summary}" for family, name, summary in faults]
    layouts = [family for family in families if family.layouts]
    if layouts:
        lines += ["", "layouts (beichen convert):"]
        for family in layouts:
            own = family.layouts if config is None else family.layouts_of(config)
            marked = [f"{name} (with experts)" if config is None and name in family.expert_layouts else name for name in own]
            lines.append(f"  {family.name}: {', '.join(['published', *marked])}")
    return lines
