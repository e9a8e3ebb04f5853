"""The tests mirror the package: a file has the name of the module, folder or page that it tests, or stands here with what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared_data import REPOSITORY

ACROSS = {  # what is true of several modules together
    "test_architecture.py": "who may import whom",
    "test_deploy.py": "the files of deploy/",
    "test_encodings.py": "every text that is read or written",
    "test_mirror.py": "the tests themselves",
    "test_package.py": "what `import beichen` gives",
    "test_repository.py": "the files beside the package",
    "cli/test_model_names.py": "models by name, in every command",
    "data/test_golden_preprocessing.py": "the published preprocessing beside ours",
    "data/test_published_samples.py": "every dialogue file of ../shared",
    "docs/test_pages.py": "all pages",
    "inference/test_each.py": "`Generator.each`",
    "inference/test_published_folders.py": "folders as they are published",
    "models/test_config.py": "the config.py of every family",
    "objectives/test_preference_losses.py": "dpo.py, ipo.py and kto.py beside the papers' formulas",
    "serve/page/test_answers.py": "the page, of written answers",
    "serve/page/test_chat.py": "the page, before a real server",
    "serve/page/test_modules.py": "the page's small parts",
    "serve/test_chaos.py": "a server under bench/chaos.py",
    "serve/test_faults.py": "faults as clients see them",
    "serve/test_openapi.py": "the server as description.py says",
    "serve/test_served_adapters.py": "adapters from folders to OpenAI's client",
    "serve/test_telling.py": "ids, logs and metrics",
    "text/test_golden_templates.py": "prompts beside the originals'",
    "text/test_golden_tokenizers.py": "published tokenizers beside the originals'",
    "text/test_published_prompts.py": "prompts as published programs write them",
    "text/training/test_equality.py": "trained files beside those of `tokenizers`",
    "train/test_packing_law.py": "a sample alone and in company, for every attention backend",
    "train/test_qwen1_fine_tuning.py": "a recipe, run as its head says",
    "train/test_recipe_files.py": "all recipes",
    "train/trackers/test_trackers.py": "all trackers",
}
TESTS = REPOSITORY / "tests"
FILES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))


def places_of(test: Path) -> list[Path]:
    """Where the module, the folder or the page may lie that a test has its name from; paths within the repository."""
    area, name = test.parent, test.stem.removeprefix("test_")
    if area.parts[:1] == ("bench",):
        return [Path("bench", f"{name}.py")]
    if area.parts[:1] == ("docs",):
        return [Path("docs", f"{name.removesuffix('_page')}.md")]
    inside = Path("beichen") / area
    return [inside / f"{name}.py", inside / name, inside / f"{name}.js"]


@pytest.mark.parametrize("test", [path for path in FILES if path.as_posix() not in ACROSS], ids=str)
def test_a_test_has_the_name_of_what_it_tests(test):
    places = places_of(test)
    assert any((REPOSITORY / place).exists() for place in places), f"none of {', '.join(map(str, places))} is there: rename it, or say why"


def test_exceptions_are_there_and_needed():
    for name in ACROSS:
        assert Path(name) in FILES, f"{name} is gone"
        assert not any((REPOSITORY / place).exists() for place in places_of(Path(name))), f"{name} has a module of its name"
