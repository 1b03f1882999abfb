"""What a request may bring, checked before Gradio sees it: the size of its body, what is uploaded at once, routes that are open."""

from __future__ import annotations

import re

import anyio
import orjson
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.data.images import MAX_BYTES
from interpret.panels.uploads import BUDGET

MAX_BODY = 2**20  # bytes of any request but an upload
MAX_UPLOAD = 4 * MAX_BYTES  # bytes of one upload, its headers included; Gradio holds each file to MAX_BYTES
MAX_FILES = 1_000  # in one upload, as Gradio's own page sends them
LONGEST_NAME = 128  # characters of a session's name, which the server keeps

API = "/gradio_api/"
UPLOAD, TOOLS = f"{API}upload", f"{API}mcp"
# Routes of Gradio that the page does not use: some write to the disk, some fetch addresses for whoever asks.
CLOSED = re.compile(f"{API}(deep_link|proxy=|file[=/]https?:|stream/|component_server|process_recording|vibe-|undo-vibe-|dev/)", re.I)

FULL = "The server holds as many uploads as it may; try again later."
TOO_LONG = f"The request is larger than {MAX_BODY // 2**20} MiB; send images as uploads."
TOO_MUCH = f"The upload exceeds the maximum allowed size of {MAX_UPLOAD // 2**20} MiB or {MAX_FILES:,} files."


class Limits:
    """The ASGI middleware that holds these limits."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = re.sub("/+", "/", scope["path"].removeprefix(scope.get("root_path", "")))
        if CLOSED.match(path):
            return await _refuse("This page does not offer that.", 404, scope, receive, send)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self.app(scope, receive, send)
        return await (self._upload if path == UPLOAD else self._small)(path, scope, receive, send)

    async def _small(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, at most `MAX_BODY`, and hand it on in one piece."""
        if _length(scope, 0) > MAX_BODY or (body := await _body(receive)) is None:
            return await _refuse(TOO_LONG, 413, scope, receive, send)
        if path.startswith(TOOLS):  # a tool's image may come in the body itself
            if not await anyio.to_thread.run_sync(BUDGET.take, len(body)):
                return await _refuse(FULL, 507, scope, receive, send)
            BUDGET.settle(len(body))
        elif path.startswith(API) and body and (fault := _fault(body)):
            return await _refuse(fault, 400, scope, receive, send)
        pieces = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(pieces, None) or await receive()

        await self.app(scope, again, send)

    async def _upload(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an upload through while the folder has room for it, and count its bytes and files as they come."""
        size = _length(scope, MAX_UPLOAD)
        if size > MAX_UPLOAD:
            return await _refuse(TOO_MUCH, 413, scope, receive, send)
        if not await anyio.to_thread.run_sync(BUDGET.take, size):
            return await _refuse(FULL, 507, scope, receive, send)
        try:
            await self.app(scope, _count(receive, _header(scope, b"content-type")), send)
        finally:
            BUDGET.settle(size)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _length(scope: Scope, absent: int) -> int:
    """What the request says of its length; bodies in chunks say nothing."""
    text = _header(scope, b"content-length")
    return int(text) if text.isdigit() else absent


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _fault(body: bytes) -> str:
    """What is wrong with a body that must be JSON; "" where it is well."""
    try:
        content = orjson.loads(body)
    except ValueError:
        return "The request is not JSON."
    name = content.get("session_hash") if isinstance(content, dict) else None
    return f"A session's name has at most {LONGEST_NAME} characters." if isinstance(name, str) and len(name) > LONGEST_NAME else ""


def _count(receive: Receive, kind: bytes) -> Receive:
    """`receive` that stops an upload of too many bytes or files with the error that Gradio's parser cleans up after."""
    boundary = re.search(rb'boundary="?([^";]+)', kind)
    mark = b"--" + boundary[1] if boundary else b"\r\n\r\n"
    size, marks, tail = 0, 0, b""

    async def next_message() -> Message:
        nonlocal size, marks, tail
        message = await receive()
        piece = message.get("body", b"")
        text = tail + piece
        size, marks, tail = size + len(piece), marks + text.count(mark), text[max(0, len(text) - len(mark) + 1) :]
        if size > MAX_UPLOAD or marks > MAX_FILES + 1:  # the last mark ends the last file
            raise MultiPartException(TOO_MUCH)
        return message

    return next_message


async def _refuse(sentence: str, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(sentence, status)(scope, receive, send)
