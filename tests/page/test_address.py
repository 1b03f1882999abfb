"""interpret/panels/address.py: an image by its address, from a server of our own that stands in for the web."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import pytest

from interpret.panels import address, uploads


class Web(BaseHTTPRequestHandler):
    """/a.png answers with bytes, /far redirects to it, /inside to a host that is not public, /long without end."""

    def do_GET(self):
        places = {"/far": "/a.png", "/inside": "http://inside.invalid/a.png", "/loop": "/loop"}
        self.send_response(302 if self.path in places else 404 if self.path == "/none" else 200)
        if self.path in places:
            self.send_header("Location", places[self.path])
        self.end_headers()
        try:
            for _ in range(1000 if self.path == "/long" else 1):
                self.wfile.write(bytes(2**20) if self.path == "/long" else b"picture")
        except OSError:
            self.server.cut = True

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch, tmp_path):
    """A stand-in for a public host named pictures.example; the only one that counts as public."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    async def resolve(host: str) -> str:
        return "8.8.8.8" if host == "pictures.example" else "10.0.0.1"

    class Transport(address.AsyncSecureTransport):
        def __init__(self, verified: str):
            assert verified == "8.8.8.8"
            super().__init__("127.0.0.1")

    monkeypatch.setattr(address, "async_validate_url", resolve)
    monkeypatch.setattr(address, "AsyncSecureTransport", Transport)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(uploads, "BUDGET", uploads.Budget(2**30, 100))
    yield server, f"http://pictures.example:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/a.png", "/far"])
def test_what_arrives_is_an_upload(web, path):
    file = asyncio.run(address.fetch(web[1] + path))
    assert uploads.upload_at(file) == file and Path(file).read_bytes() == b"picture"


@pytest.mark.parametrize("path", ["/inside", "/loop", "/none"])
def test_what_must_not_or_cannot_be_fetched_is_one_sentence(web, path, tmp_path):
    with pytest.raises(gr.Error) as refusal:
        asyncio.run(address.fetch(web[1] + path))
    assert refusal.value.message == address.REFUSED and not list(tmp_path.iterdir())


def test_an_answer_without_end_is_cut_and_not_kept(web, monkeypatch, tmp_path):
    monkeypatch.setattr(address, "MAX_BYTES", 2**22)
    with pytest.raises(gr.Error, match="The address gives no image"):
        asyncio.run(address.fetch(web[1] + "/long"))
    assert not list(tmp_path.iterdir())


def test_a_full_folder_fetches_nothing(web, monkeypatch):
    monkeypatch.setattr(uploads, "BUDGET", uploads.Budget(10, 100))
    with pytest.raises(gr.Error, match="as many uploads as it may"):
        asyncio.run(address.fetch(web[1] + "/a.png"))
