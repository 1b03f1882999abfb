"""A mirror on loopback, with faults that a test switches on."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler


class Mirror:
    """What the server holds and how it behaves; what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut_after: int | None = None  # bytes of the body, once
        self.ignore_range = False
        self.refuse_range = False
        self.chunked = False
        self.status = 200
        self.content_range: str | None = None
        self.silent = threading.Event()
        self.silent.set()


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.mirror
        mirror.ranges.append(self.headers.get("Range"))
        mirror.silent.wait(10)
        content = mirror.files.get(self.path.lstrip("/"))
        if content is None or mirror.status != 200:
            return self.send_error(404 if content is None else mirror.status)
        asked = None if mirror.ignore_range else self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and (mirror.refuse_range or start >= len(content)):
            return self.send_error(416)
        self.answer(content, start, partial=bool(asked))

    def answer(self, content: bytes, start: int, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        body = content[start:]
        if partial:
            span = self.mirror.content_range or f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if self.mirror.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.mirror.cut_after])
        self.mirror.cut_after = None
