"""What a stranger sends to a server, and how the answers are read."""

import io
import json
import re
from pathlib import Path

import httpx
import numpy as np
from gradio_client import handle_file
from PIL import Image

META = {"meta": {"_type": "gradio.FileData"}}
MARKUP = "<img src=x onerror=alert(1)> [a](https://a.example) `b`"
HUGE = 30_000_000
REST = ["embedded", "combined"]  # the other arguments of /analyze
QUEUED = [*REST, None]  # the same in the queue, which counts what the session holds


def png(side: int = 96) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(target, "png")
    return target.getvalue()


def answer(url: str, name: str, values: list) -> str:
    """The last event of a call as text, whatever it is."""
    posted = httpx.post(f"{url}/gradio_api/call/{name}", json={"data": values}, timeout=60)
    if posted.status_code != 200:
        return posted.text
    return httpx.get(f"{url}/gradio_api/call/{name}/{posted.json()['event_id']}", timeout=120).text


def error(text: str) -> str:
    """The sentence of an error event."""
    found = re.search(r"event: error\ndata: (.*)", text)
    assert found, text[:500]
    return json.loads(found[1])["error"]


def is_one_sentence(text: str) -> bool:
    return bool(re.fullmatch(r"[“A-Z][^\n/]{10,250}\.", text))


def analyse(client) -> dict:
    """Let the client's session hold an analysed image and its heatmap; the image as a payload."""
    path = Path(client.output_dir) / "noise.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png())
    assert client.predict(handle_file(str(path)), api_name="/analyze")["error"] is None
    assert client.predict(api_name="/heatmap")[1]
    return handle_file(str(path))


def through_queue(url: str, values: list, session: str, name: str = "analyze", event: dict | None = None) -> str:
    """What the queue tells of one action of the page, private ones too. event: as of a click in a gallery."""
    config = httpx.get(f"{url}/config").json()
    index = next(d["id"] for d in config["dependencies"] if d["api_name"] == name)
    body = {"data": values, "fn_index": index, "event_data": event, "session_hash": session}
    joined = httpx.post(f"{url}/gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    return httpx.get(f"{url}/gradio_api/queue/data", params={"session_hash": session}, timeout=60).text
