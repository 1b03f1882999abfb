"""A stand-in for the hub on loopback: what it serves, how much of a file it sends before it hangs up, and what it was asked."""

import hashlib
from http.server import BaseHTTPRequestHandler

from safetensors.torch import save

from detector.hub import backbones as hub


class Hub:
    """What the stand-in serves, how much of a file it sends before it hangs up, and what it was asked."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.checksums: dict[str, str] = {}
        self.cut: int | None = None
        self.refusal: int | None = None  # an HTTP status for every request
        self.asked: list[tuple[str, str, str | None]] = []

    def put(self, path: str, content: bytes, checksum: str | None = None) -> None:
        self.files[path] = content
        self.checksums[path] = checksum or hashlib.sha256(content).hexdigest()


def handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def _send(self, status: int, length: int = 0, **headers) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def do_HEAD(self):
            hub.asked.append((self.command, self.path, self.headers.get("Range")))
            if hub.refusal:
                return self._send(hub.refusal)
            if self.path not in hub.files:
                return self._send(404, X_Error_Code="EntryNotFound")
            place = f"http://localhost:{self.server.server_port}/content{self.path}?signature=1"
            self._send(
                302,
                Location=place,
                ETag='"of the redirect"',
                X_Repo_Commit="0" * 40,
                X_Linked_Size=len(hub.files[self.path]),
                X_Linked_Etag=f'"{hub.checksums[self.path]}"',
            )

        def do_GET(self):
            if not self.path.startswith("/content/"):
                return self.do_HEAD()
            hub.asked.append((self.command, self.path, self.headers.get("Range")))
            content = hub.files[self.path.removeprefix("/content").partition("?")[0]]
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            span = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            self._send(206 if start else 200, len(content) - start, **span)
            self.wfile.write(memoryview(content)[start:][: hub.cut])

    return Handler


def serve(stand_in: Hub, model, repository: str, name: str = hub.SAFE_NAME, **options) -> bytes:
    """Put a model's weights on the hub; the file's bytes."""
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    stand_in.put(f"/{repository}/resolve/main/{name}", content, **options)
    return content
