"""A local Hub that huggingface_hub takes for the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from servers import HubServer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # huggingface_hub loses what it has of a chunk when the connection is cut; its chunks are 10 MiB.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with HubServer({}) as server:
        # As HF_ENDPOINT, had it been set before the import: not one request leaves this machine.
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
