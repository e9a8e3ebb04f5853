"""The report of runs: what differs is found, every number of the records is drawn, what people wrote stays text."""

from __future__ import annotations

from html.parser import HTMLParser

from beichen.evaluation.run_report import RunFigures, curves_of, differing_settings, held_out_curves, report_page


def run(name: str, rate: float, *, result: dict | None = None) -> RunFigures:
    records: list[dict] = [
        {"step": step, "tokens": 100 * step, "loss": 1 / step, "rate_factor": rate, "experts/load": [[0.5, 0.5]], "seconds": 0.1 * step}
        for step in range(1, 6)
    ]
    records.insert(3, {"step": 3, "held_out": {"zh": {"loss": 2.0}}, "answers": {"<b>你好</b>": "再见 & <script>"}})
    records.insert(5, {"step": 4, "at_step": 5, "fault": "the loss is nan", "samples": ["dialogue 7"]})
    settings = {"out": f"runs/{name}", "optimizer.learning_rate": rate, "seed": 0}
    return RunFigures(name=name, settings=settings, records=records, result=result)


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong place."""

    void = ("meta", "br", "use", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_settings_that_differ_are_found_and_only_they() -> None:
    assert differing_settings([run("a", 0.1), run("b", 0.2), run("c", 0.1)]) == {"optimizer.learning_rate": [0.1, 0.2, 0.1]}
    assert differing_settings([run("a", 0.1), run("b", 0.1)]) == {}


def test_every_number_of_the_steps_is_a_curve() -> None:
    curves = curves_of([run("a", 0.1), run("b", 0.2)])
    assert list(curves) == ["loss", "rate_factor"]
    assert curves["loss"]["b"] == ([0.0001, 0.0002, 0.0003, 0.0004, 0.0005], [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert held_out_curves([run("a", 0.1)]) == {"a: zh": ([0.0003], [2.0])}


def test_the_page_is_whole_and_what_people_wrote_is_text() -> None:
    text = report_page([run("a", 0.1, result={"loss": 0.25, "folder": "x"}), run("b", 0.2)])
    page = Balanced()
    page.feed(text)
    assert not page.open and text.count("<svg") == 3 and "<script" not in text and "http" not in text.replace("http://www.w3.org", "")
    said = " ".join(page.texts)
    for words in ("<b>你好</b>", "再见 & <script>", "the loss is nan", "dialogue 7", "optimizer.learning_rate", "Not finished: b", "0.25"):
        assert words in said, words
    alone = report_page([run("a", 0.1)])
    assert "Settings that differ" not in alone
