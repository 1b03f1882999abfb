"""The stand-in for the hub, running, and empty caches."""

import threading
from http.server import ThreadingHTTPServer

import pytest
from hub_server import Hub, handler


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A running stand-in with nothing on it; every cache is empty."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.stop = lambda: (server.shutdown(), server.server_close())
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)  # it would ask the real hub for something
    monkeypatch.setenv("no_proxy", "*")
    yield state
    state.stop()
