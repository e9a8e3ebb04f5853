"""What a command may write over: nothing but a page or a picture that Beichen drew."""

from __future__ import annotations

import pytest

from beichen.cli.outputs import drawn_file, new_file
from beichen.errors import SettingsError
from beichen.evaluation.plots import plot_groups
from beichen.util.page import page


def test_a_new_file_is_new(tmp_path):
    assert new_file(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a").touch()
    with pytest.raises(SettingsError, match="nothing is overwritten"):
        new_file(tmp_path / "a")


def test_pages_and_pictures_of_ours_are_known(tmp_path):
    (tmp_path / "page.html").write_text(page("a very long title " * 100, ["<p>b</p>"]))
    plot_groups(tmp_path / "bars.png", {"a": {"b": 1.0}}, title="t", label="l")
    for name in ("page.html", "bars.png", "absent"):
        assert drawn_file(tmp_path / name) == tmp_path / name
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("notes.txt", "."):
        with pytest.raises(SettingsError, match="only those are replaced"):
            drawn_file(tmp_path / name)
