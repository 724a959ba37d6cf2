"""Servers to ask: one that answers as scripted, one behind which the real SmolLM2 answers."""

from __future__ import annotations

import pytest
from tests.judges.server import Completion, EndpointServer, model_completion

from levercheck.judges.client import ChatClient


@pytest.fixture
def endpoint_server():
    """Answers "Paris" unless its `script` or `complete` says otherwise."""
    with EndpointServer(lambda asked: Completion("Paris", ["Par", "is"], [-0.5, -0.25])) as server:
        yield server


@pytest.fixture(scope="session")
def model_server(smollm):
    with EndpointServer(model_completion(smollm), model="smollm2-135m") as server:
        yield server


@pytest.fixture
def client(endpoint_server):
    """A client of `endpoint_server` that waits next to nothing between attempts."""
    with ChatClient(endpoint_server.endpoint(), backoff_s=0.01) as client:
        yield client
