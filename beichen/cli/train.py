"""example: beichen train --config recipes/telechat2/tiny_pretraining.yaml --budget.minutes 2"""

from __future__ import annotations

import argparse

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json


def settings_class() -> type:
    from beichen.train.settings import TrainRecipe

    return TrainRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.config import settings_as_yaml
    from beichen.train.run import train

    reporter = make_reporter()
    reporter.line(settings_as_yaml(arguments.settings).rstrip())
    result = train(arguments.settings, reporter)
    if arguments.json:
        print_json(result)
        return 0 if result.finished else 130
    print(result.as_text())
    print(result.folder)
    return 0 if result.finished else 130
