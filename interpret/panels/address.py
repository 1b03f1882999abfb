"""An image by its address: fetched from public hosts only, in pieces, no more than an upload may hold.

Gradio 6.31 fetches with the same protection, but takes a whole answer into memory, however long it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import PurePosixPath
from typing import TypeGuard

import anyio
import gradio as gr
import httpx
from gradio.processing_utils import save_bytes_to_cache
from gradio_client.utils import strip_invalid_filename_characters
from safehttpx import AsyncSecureTransport, async_validate_url

from detector.data.images import MAX_BYTES
from interpret.panels import limits, uploads

SECONDS, MOST_REDIRECTS = 20, 5
REFUSED = f"The address gives no image: it must be public and answer with a file of at most {MAX_BYTES // 2**20} MiB."


def is_address(path: object) -> TypeGuard[str]:
    """Whether a payload's path is an address on the web."""
    return isinstance(path, str) and path.startswith(("http://", "https://"))


async def fetch(url: str) -> str:
    """The path of the file behind an address, among the uploads. gr.Error, one sentence that says nothing of who answered what."""
    if not await anyio.to_thread.run_sync(uploads.BUDGET.take, MAX_BYTES):
        raise gr.Error(limits.FULL, print_exception=False)
    try:
        async with asyncio.timeout(SECONDS):
            data = await _content(httpx.URL(url), MOST_REDIRECTS)
        name = strip_invalid_filename_characters(PurePosixPath(httpx.URL(url).path).name) or "image"
        return await anyio.to_thread.run_sync(save_bytes_to_cache, data, name, uploads.folder())
    except Exception as error:
        raise gr.Error(REFUSED, print_exception=False) from error
    finally:
        uploads.BUDGET.settle(MAX_BYTES)


async def _content(url: httpx.URL, redirects: int) -> bytes:
    """The answer's bytes; every host on the way, redirects included, must be public. ValueError or httpx.HTTPError."""
    host = await async_validate_url(url.host)  # and the connection goes to the very number that was checked
    if url.scheme not in ("http", "https") or not ipaddress.ip_address(host).is_global:
        raise ValueError("not a public address")
    client = httpx.AsyncClient(transport=AsyncSecureTransport(host), headers={"Accept-Encoding": "identity"})
    async with client, client.stream("GET", url) as answer:
        if not answer.has_redirect_location:
            answer.raise_for_status()
            return await _bounded(answer)
    if not redirects:
        raise ValueError("too many redirects")
    return await _content(url.join(answer.headers["location"]), redirects - 1)


async def _bounded(answer: httpx.Response) -> bytes:
    data = bytearray()
    async for piece in answer.aiter_raw():
        data += piece
        if len(data) > MAX_BYTES:
            raise ValueError("too long")
    return bytes(data)
