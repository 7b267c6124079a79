"""The real client of the Hub in the tests' own process, pointed at a loopback hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from loopback_hub import LoopbackHub


def connect(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch, *, token: str | None = None) -> None:
    """Have every call of the client in this process go to `hub`, and what it fetches into `cache`."""
    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_TOKEN_PATH": str(cache / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    close_session()
