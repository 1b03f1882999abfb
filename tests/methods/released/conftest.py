"""No network but a mirror on loopback."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from mirror import Handler, Mirror
from released_files import as_bytes, packed, synthetic_state

from detector.methods import published
from detector.methods.published import SOURCES


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing can leave the machine: port 9 of loopback answers nobody."""
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    state = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"mirror": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", f"http://127.0.0.1:{server.server_port}/")
    yield state
    state.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Put a file on the mirror and pin it, as if it were the published one."""

    def put(name: str, content: bytes | None = None) -> bytes:
        content = as_bytes(packed(name, synthetic_state(name))) if content is None else content
        pinned = dataclasses.replace(SOURCES[name], sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        monkeypatch.setitem(published.SOURCES, name, pinned)
        mirror.files[pinned.file] = content
        return content

    return put
