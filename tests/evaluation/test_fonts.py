"""Names in figures: what no font can show gets a stand-in, so that no figure shows empty boxes."""

from __future__ import annotations

import warnings

import pytest

from beichen.evaluation import fonts
from beichen.evaluation.plots import curves_svg, plot_groups
from beichen.evaluation.run_report import RunFigures, report_page


@pytest.fixture
def no_chinese_font(monkeypatch):
    monkeypatch.setattr(fonts, "families", lambda: ("DejaVu Sans",))


def test_names_that_no_font_shows_have_stand_ins(no_chinese_font):
    shown = fonts.stand_ins(["english", "中文", "été", "中文 2"], "series")
    assert shown == {"english": "english", "中文": "series 2", "été": "été", "中文 2": "series 4"}


def test_the_first_chinese_font_that_is_installed_follows_ours():
    own, *chinese = fonts.families()
    assert own == "DejaVu Sans" and len(chinese) <= 1
    names = ["中文"]
    assert fonts.stand_ins(names, "series")["中文"] == ("中文" if chinese else "series 1")


def test_figures_with_stand_ins_warn_of_nothing(no_chinese_font, tmp_path):
    names = fonts.stand_ins(["甲", "b"], "series")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_groups(tmp_path / "bars.png", {label: {"x": 1.0} for label in names.values()}, title="t", label="l")


def test_a_page_shows_names_in_its_own_fonts():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "中文" in curves_svg({name: ([1, 2], [1.0, 2.0]) for name in ("中文", "b")}, title="t", x_label="x", y_label="y")
        runs = [RunFigures(name=name, settings={}, records=[{"tokens": 1, "loss": 1.0}], result=None) for name in ("中文", "b")]
        assert "中文" in report_page(runs)
