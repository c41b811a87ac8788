"""Refusals of the Hub that the command's own tests do not meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import HubServer, Repo

from g2s_cli.errors import WeightsError
from g2s_cli.weights.registry import Sources, find_category


def test_a_gated_repository_is_refused_with_its_remedy(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub.repos["somebody/secret"] = Repo.of({"owls/model.toml": b"title = 'Owls'"}, gated=True)
    with pytest.raises(WeightsError, match=r"access is granted by its owner\. Ask for it, and set HF_TOKEN\."):
        find_category("owls", Sources("somebody/secret"))
