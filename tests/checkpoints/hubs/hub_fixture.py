"""A hub on localhost that both libraries of this process believe to be theirs, with caches that are the test's own."""

from __future__ import annotations

import pytest

from tests.checkpoints.hubs.hub_server import Hub, running_hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running hub that both libraries believe to be theirs."""
    import huggingface_hub.constants

    with running_hub() as hub:
        for name in ("HF_HUB_OFFLINE", "BEICHEN_OFFLINE", "HF_TOKEN", "MODELSCOPE_API_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        point_at(hub, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "ms-home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # both wait before they try again
        monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.0)
        yield hub


def point_at(hub: Hub, monkeypatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
