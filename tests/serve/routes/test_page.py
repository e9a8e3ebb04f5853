"""The chat page's files as a browser fetches them; what they do is tested in a browser, in ``tests/serve/page``."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

import beichen.serve
from beichen.inference.language_model import LanguageModel
from beichen.serve.routes.page import read_page
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import live_server

FOLDER = Path(beichen.serve.__path__[0]) / "page"
SCRIPTS = sorted(FOLDER.glob("*.js"))


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")


def test_every_file_comes_with_the_policy_and_is_fetched_once(model):
    with live_server(model, ui=True, keys=("secret",)) as live:  # the page itself asks for no key, so that it can ask the reader
        for path, file in read_page().items():
            answer = httpx2.get(f"{live.url}{path}")
            assert answer.status_code == 200 and answer.content == file.content
            policy = dict(rule.strip().partition(" ")[::2] for rule in answer.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
            assert policy["require-trusted-types-for"] == "'script'" and answer.headers["x-content-type-options"] == "nosniff"
            again = httpx2.get(f"{live.url}{path}", headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304 and not again.content
            head = httpx2.head(f"{live.url}{path}")
            assert head.status_code == 200 and not head.content and head.headers["content-length"] == str(len(file.content))
        assert httpx2.get(f"{live.url}/v1/models").status_code == 401


def test_nothing_else_is_there(model):
    with live_server(model, ui=True) as live:
        for path in ("/page/", "/page/app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/index.html"):
            assert httpx2.get(f"{live.url}{path}").status_code == 404
    with live_server(model) as live:
        assert httpx2.get(f"{live.url}/page/main.js").status_code == 404


def test_without_a_page_the_root_says_what_there_is(model):
    with live_server(model, keys=("secret",)) as live:
        told = httpx2.get(f"{live.url}/")
        assert told.status_code == httpx2.head(f"{live.url}/").status_code == 200 and "--ui" in told.json()["page"]
        key = {"Authorization": "Bearer secret"}
        assert httpx2.get(f"{live.url}{told.json()['api']}/models", headers=key).status_code == 200
        for path in (told.json()["description"], told.json()["health"]):
            assert httpx2.get(f"{live.url}{path}", headers=key).status_code == 200


def test_a_file_loads_nothing_from_elsewhere():
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"""(src|href)=["'](https?:)?//|@import|url\(|import\(""", text), file.name
        assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg"}, file.name


def test_no_script_reads_markup_or_runs_text():
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setHTML|srcdoc"
    for file in SCRIPTS:
        assert not re.search(forbidden, file.read_text(encoding="utf-8")), file.name
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", page), "the policy allows nothing inline"


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_a_file_is_one_idea(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 300
    if file.suffix == ".js":
        assert lines[0].startswith("// ") and max(map(len, lines)) <= 140
        imported = re.findall(r'from "\./([\w.]+)"', file.read_text(encoding="utf-8"))
        assert all((FOLDER / name).exists() for name in imported)


def test_both_languages_have_the_same_words_and_all_that_are_asked_for():
    text = (FOLDER / "words.js").read_text(encoding="utf-8")
    tables = {name: dict(re.findall(r'(\w+): "([^"]*)"', body)) for name, body in re.findall(r"const (en|zh) = \{(.*?)\n\};", text, re.S)}
    assert tables["en"].keys() == tables["zh"].keys() and len(tables["en"]) > 60
    for key, words in tables["en"].items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", tables["zh"][key])), key
    asked = {key for file in SCRIPTS for key in re.findall(r'\bt\("(\w+)"', file.read_text(encoding="utf-8"))}
    asked |= set(re.findall(r'data-(?:text|label|hint)="(\w+)"', (FOLDER / "index.html").read_text(encoding="utf-8")))
    assert asked <= tables["en"].keys()


def brightness(colour: str) -> float:
    """Relative luminance, by WCAG."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


CODE = ["code-comment", "code-string", "code-number", "code-word"]
PAIRS = {
    "ground": ["text", "faint", "accent", "fault"], "raised": ["text", "faint", "accent"], "sunken": ["text", "faint", *CODE],
    "tint": ["text", "faint"], "accent": ["on-accent"], "fault-tint": ["fault"], "fault": ["ground"],
}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(theme):
    """4.5 to 1, as WCAG asks of small text."""
    rules = (FOLDER / "colours.css").read_text(encoding="utf-8").split("}")[("light", "dark").index(theme)]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", rules))
    for ground, texts in PAIRS.items():
        for text in texts:
            dark, light = sorted((brightness(colours[ground]), brightness(colours[text])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"
