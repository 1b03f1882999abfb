"""What a stranger sends to a real server: paths of its disk, huge bodies, wrong types, more files than it may hold."""

import base64
import io
import json
import os
import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from interpret.panels.address import REFUSED
from interpret.panels.gate import NO_UPLOAD
from interpret.panels.limits import FULL, MAX_FILES, TOO_LONG, TOO_MUCH
from interpret.panels.uploads import NAME, SIX_HOURS

META = {"meta": {"_type": "gradio.FileData"}}
MARKUP = "<img src=x onerror=alert(1)> [a](https://a.example) `b`"
HUGE = 30_000_000
REST = ["embedded", "combined"]  # the other arguments of /analyze


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


@pytest.fixture(scope="module")
def url(own_server) -> str:
    return own_server[0]


@pytest.fixture(scope="module")
def folder(own_server) -> Path:
    return own_server[2] / NAME


@pytest.fixture(scope="module")
def client(url):
    client = Client(url, verbose=False)
    analyse(client)
    yield client
    client.close()


def analyse(client) -> dict:
    """Let the client's session hold an analysed image and its heatmap; the image as a payload."""
    path = Path(client.output_dir) / "noise.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png())
    assert client.predict(handle_file(str(path)), api_name="/analyze")["error"] is None
    assert client.predict(api_name="/heatmap")[1]
    return handle_file(str(path))


# --- files of the server -------------------------------------------------------------------------------------------


def server_paths(folder: Path) -> dict[str, object]:
    """What a stranger may put in a path's place; the private picture is a good one, so that nothing but the gate refuses it."""
    private = folder.parent / "private.png"
    private.write_bytes(png())
    link = folder / ("cd" * 32) / "link.png"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(private)
    loose = folder / "loose.png"
    loose.write_bytes(png())
    return {
        "private": str(private),
        "missing": str(private.with_name("missing.png")),
        "system": "/etc/passwd",
        "no folder": "/none/a.png",
        "app folder": "app.py",
        "example": "assets/examples/china.jpg",
        "relative": "../private.png",
        "dots": f"{folder}/../private.png",
        "dots after a hash": f"{link.parent}/../../private.png",
        "link": str(link),
        "loose": str(loose),
        "missing upload": f"{folder}/{'ab' * 32}/a.png",
        "folder": str(folder),
        "nul": f"{private}\0.png",
        "long": str(folder / ("a" * 5000)),
        "file url": f"file://{private}",
        "data": "data:image/png;base64,AAAA",
        "empty": "",
        "number": 5,
        "list": [str(private)],
        "nested": {"path": str(private)},
    }


@pytest.mark.parametrize("meta", [{}, META, {"meta": {}}, {"meta": None}], ids=["bare", "meta", "empty meta", "no meta"])
def test_no_path_of_the_server_is_opened_or_known(url, folder, meta):
    told = {
        name: error(answer(url, "analyze", [{"path": path, "orig_name": "a.png"} | meta, *REST]))
        for name, path in server_paths(folder).items()
    }
    assert set(told.values()) == {NO_UPLOAD}, told


def test_no_other_shape_of_an_image_is_taken(url, folder):
    path = server_paths(folder)["private"]
    data = "data:image/png;base64," + base64.b64encode(png()).decode()
    for payload in (
        [{"path": path}],
        path,
        {"url": path},
        {"url": data},
        {"url": f"{url}/gradio_api/file={path}"},
        {},
        [],
        5,
        True,
        {"path": None, "url": data},
        {"image": {"path": path} | META},
        [[path]],
        {"path": path, "is_stream": True} | META,
    ):
        assert error(answer(url, "analyze", [payload, *REST])) == NO_UPLOAD, payload


def test_no_address_inside_the_network_is_fetched(url):
    host = url.removeprefix("http://")
    for address in (
        f"http://{host}/config",
        "http://localhost:1/a.png",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "https://",
        "http://10.0.0.1/a.png",
        "http://0/a.png",
        "http://user@127.0.0.1/a.png",
        "http://no.such.invalid/a.png",
    ):
        for meta in ({}, META):
            assert error(answer(url, "analyze", [{"path": address} | meta, *REST])) == REFUSED


def test_a_file_in_any_other_argument_is_refused_in_the_same_way(client, url, folder):
    """Gradio follows a path with `meta` in every argument, not only in images."""
    paths = server_paths(folder)
    for path in (paths["private"], paths["missing"], f"{url}/config"):
        for name, values in (
            ("use_model", [{"path": path} | META, "embedded"]),
            ("get_heads", [{"path": path} | META]),
            ("analyze", [None, {"path": path} | META, "combined"]),
            ("probe", [[{"path": path} | META], ""]),
        ):
            assert is_one_sentence(error(answer(url, name, values)))
    assert str(paths["private"]) not in answer(url, "get_heads", [{"path": paths["private"]} | META])


def through_queue(url: str, values: list, session: str) -> str:
    config = httpx.get(f"{url}/config").json()
    index = next(d["id"] for d in config["dependencies"] if d["api_name"] == "analyze")
    joined = httpx.post(f"{url}/gradio_api/queue/join", json={"data": values, "fn_index": index, "session_hash": session})
    assert joined.status_code == 200, joined.text
    return httpx.get(f"{url}/gradio_api/queue/data", params={"session_hash": session}, timeout=60).text


def test_every_way_to_the_action_refuses_the_same(url, folder):
    path = server_paths(folder)["private"]
    for meta in ({}, META):
        payload = {"path": path} | meta
        assert NO_UPLOAD in through_queue(url, [payload, *REST], f"thief{len(meta)}")
        for route in ("run/analyze", "api/analyze", "run/predict"):
            body = {"data": [payload, *REST], "session_hash": "thief"}
            direct = httpx.post(f"{url}/gradio_api/{route}", json=body, timeout=60)
            assert direct.status_code >= 400 and "private" not in direct.text
        named = httpx.post(f"{url}/gradio_api/call/v2/analyze", json={"image": payload, "backbone": "embedded", "training": "combined"})
        assert NO_UPLOAD in httpx.get(f"{url}/gradio_api/call/analyze/{named.json()['event_id']}", timeout=60).text


def test_nothing_of_a_refused_file_can_be_looked_at_later(url, folder):
    path = server_paths(folder)["private"]
    through_queue(url, [{"path": path}, *REST], "later")
    assert "private" not in httpx.get(f"{url}/gradio_api/deep_link", params={"session_hash": "later"}).text
    assert not list(folder.glob("deep_links/*/state.json"))
    for name in (path, "/etc/passwd", "app.py", f"{folder}/../private.png"):
        assert httpx.get(f"{url}/gradio_api/file={name}").status_code == 403


def test_an_upload_and_an_example_are_taken(url):
    posted = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", png())})
    (path,) = posted.json()
    for meta in ({}, META):
        assert '"error": null' in answer(url, "analyze", [{"path": path} | meta, *REST])
    shown = httpx.post(f"{url}/gradio_api/run/predict", json={"data": [0], "fn_index": 0, "session_hash": "example"}, timeout=60).json()
    example = shown["data"][0]
    example = example.get("value", example) if "path" not in example else example
    assert '"error": null' in answer(url, "analyze", [example, *REST])
    assert httpx.get(f"{url}/gradio_api/file={example['path']}").status_code == 200


@pytest.mark.parametrize(
    "route",
    [
        "deep_link?session_hash=a",
        "proxy=https://a.hf.space/",
        "file=http://127.0.0.1:1/",
        "file=https://a.example/",
        "file/HTTP://a.example/",
        "stream/a",
        "stream/a/b/c/playlist.m3u8",
        "component_server",
        "process_recording",
        "vibe-code",
        "vibe-edit",
        "dev/reload",
        "/deep_link",
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(url, route):
    for method in ("GET", "POST"):
        told = httpx.request(method, f"{url}/gradio_api/{route}")
        assert told.status_code == 404 and told.text == "This page does not offer that."


def test_an_mcp_client_gets_no_file_of_the_server(start, tmp_path):
    pytest.importorskip("mcp", reason="needs gradio[mcp]")
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    url, _ = start(GRADIO_MCP_SERVER="True")
    private = tmp_path / "private.png"
    private.write_bytes(png())
    missing = str(tmp_path / "no")
    images = [
        str(private),
        f"file://{private}",
        {"path": str(private)} | META,
        {"path": str(private)},
        f"{url}/config",
        missing,
        {"path": missing} | META,
        "data:image/png;base64,AAAA",
    ]

    async def ask() -> list[str]:
        async with streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return [(await session.call_tool("analyze_image", {"image": image})).content[0].text for image in images]

    told = asyncio.run(ask())
    assert not any('"verdict"' in text for text in told), told
    assert not list((tmp_path / "uploads").rglob("private*"))
    assert told[2] == told[6].replace(missing, str(private))  # the same whether there is such a file or not
    for payload in ({"path": str(private)}, {"path": str(private)} | META):
        assert error(answer(url, "analyze_image", [payload, "embedded"])) == NO_UPLOAD


# --- memory --------------------------------------------------------------------------------------------------------


def resident(process) -> float:
    """Resident memory in MB (Linux)."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


def arguments(client) -> list[tuple[str, int, list, dict]]:
    """(endpoint, position, all values, description) of every argument of every named endpoint."""
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    return [
        (name, at, [p.get("parameter_default") for p in about["parameters"]], parameter)
        for name, about in named.items()
        for at, parameter in enumerate(about["parameters"])
    ]


def test_huge_values_are_refused_and_not_kept(own_server, client):
    url, process, _ = own_server
    every, before = arguments(client), resident(process)
    assert len(every) > 15
    for name, at, values, _ in every:
        body = json.dumps({"data": [*values[:at], "x" * HUGE, *values[at + 1 :]]}).encode()
        told = httpx.post(f"{url}/gradio_api/call{name}", content=body, headers={"content-type": "application/json"}, timeout=60)
        assert told.status_code == 413 and told.text == TOO_LONG
    assert resident(process) - before < 60


def test_bodies_without_a_length_are_counted_as_they_come(own_server, client):
    url, process, _ = own_server
    sent, before = 0, resident(process)

    def pieces():
        nonlocal sent
        yield b'{"data": [null, "'
        for _ in range(HUGE // 10_000):
            sent += 10_000
            yield b"x" * 10_000
        yield b'", "combined"]}'

    kinds = ("application/json", "text/plain", "multipart/form-data; boundary=a")
    for route, kind in zip(("call/analyze", "queue/join", "call/analyze"), kinds, strict=True):
        told = httpx.post(f"{url}/gradio_api/{route}", content=pieces(), headers={"content-type": kind}, timeout=60)
        assert told.status_code == 413 and told.text == TOO_LONG
    assert resident(process) - before < 60


def test_long_names_of_sessions_are_refused(url):
    for route in ("queue/join", "call/analyze", "run/predict", "cancel"):
        body = {"data": [None, *REST], "fn_index": 2, "event_id": "a", "session_hash": "x" * 10_000}
        told = httpx.post(f"{url}/gradio_api/{route}", json=body)
        assert told.status_code == 400 and is_one_sentence(told.text)


# --- wrong values --------------------------------------------------------------------------------------------------


TEXT = [5, 1.5, True, [], ["a"], [["a"]], {}, {"a": 1}, {"value": "windows"}, "x" * 20_000]
NAMES = [5, True, "unit 1", {}, {"a": 1}, [5], [None], [["unit 1"]], [{"a": 1}], ["x" * 20_000]]
NUMBER = [None, True, "0.5", "", [], [0.5], {}, {"a": 1}, -1, 2, 1e300]
WHOLE = [None, True, "1", 0.5, [], [1], {}, {"a": 1}]
IMAGE = [5, True, "a.png", [], {}, {"a": 1}, {"path": 5}, [{"path": "a.png"}]]


def wrong_values(about: dict) -> list:
    kinds = {"Slider": NUMBER, "Image": IMAGE}
    if about["type"].get("type") == "array":
        return NAMES
    if about["component"] == "Radio" and about["parameter_default"] == 0:
        return WHOLE
    return kinds.get(about["component"], TEXT)


def test_every_wrong_type_in_every_argument_gets_one_sentence(client):
    tried, _ = 0, analyse(client)
    for name, at, values, about in arguments(client):
        for wrong in wrong_values(about):
            with pytest.raises(AppError) as caught:
                client.predict(*values[:at], wrong, *values[at + 1 :], api_name=name)
            assert is_one_sentence(str(caught.value)), (name, at, wrong, str(caught.value))
            tried += 1
    assert tried > 150


def test_nothing_at_all_gets_a_sentence_or_an_answer(client):
    analyse(client)
    for name, at, values, _ in arguments(client):
        try:
            client.predict(*values[:at], None, *values[at + 1 :], api_name=name)
        except AppError as refusal:
            assert is_one_sentence(str(refusal)), (name, at, str(refusal))


def test_too_few_and_too_many_values_get_one_sentence_or_an_answer(url):
    for name in ("analyze", "heatmap", "caption", "probe", "use_model"):
        assert is_one_sentence(error(answer(url, name, [])))
    assert "event: complete" in answer(url, "analyze", [None, *REST, 5, {}])


def test_unknown_names_are_refused_without_being_repeated(client):
    refused, image = 0, analyse(client)
    for name, at, values, about in sorted(arguments(client), key=lambda each: each[0] == "/analyze"):  # last: it forgets the image
        if about["component"] in ("Slider", "Image") or name in ("/probe", "/caption", "/caption_view"):
            continue
        wrong = [MARKUP] if wrong_values(about) is NAMES else MARKUP
        values = [image, *values[1:]] if name == "/analyze" else values
        told = json.dumps(client.predict(*values[:at], wrong, *values[at + 1 :], api_name=name), ensure_ascii=False, default=str)
        # the backbone in use is only where to fall back to
        assert "onerror" not in told and (name == "/use_model" and at == 1 or re.search("There is no |There are|there are|names no", told))
        refused += 1
    assert refused >= 9


def test_an_unexpected_failure_tells_nothing_of_the_server(url):
    """There is no example of that number; Gradio would name the file and the line in which that came out."""
    config = httpx.get(f"{url}/config").json()
    index = next(d["id"] for d in config["dependencies"] if d["api_name"] == "load_example")
    told = httpx.post(f"{url}/gradio_api/run/predict", json={"data": [10**9], "fn_index": index, "session_hash": "a"}, timeout=60)
    assert is_one_sentence(told.json()["error"])


# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_holds_few_files_and_is_not_larger_than_one_may_be(url, folder):
    many = httpx.post(f"{url}/gradio_api/upload", files=[("files", (f"{i}.png", b"many" + bytes([i]))) for i in range(MAX_FILES + 1)])
    assert many.status_code == 413 and many.text == TOO_MUCH

    def endless():
        for index in range(5):
            yield f'\r\n--a\r\nContent-Disposition: form-data; name="files"; filename="{index}.png"\r\n\r\n'.encode()
            for _ in range(40):
                yield bytes(2**20)

    kind = {"content-type": "multipart/form-data; boundary=a"}
    large = httpx.post(f"{url}/gradio_api/upload", content=endless(), headers=kind, timeout=60)
    assert large.status_code == 413 and large.text == TOO_MUCH
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]  # no halves stay
    some = httpx.post(f"{url}/gradio_api/upload", files=[("files", (f"{i}.png", b"some" + bytes([i]))) for i in range(MAX_FILES)])
    assert len(some.json()) == MAX_FILES


def test_uploads_beyond_the_budget_are_refused_before_they_are_taken(start, tmp_path):
    url, _ = start(CUESCOPE_UPLOADS_MB="2", CUESCOPE_UPLOADS_FILES="40")
    folder = tmp_path / "uploads" / NAME

    def send(data: bytes) -> httpx.Response:
        return httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", data)}, timeout=60)

    old = folder / ("ab" * 32) / "old.png"
    assert send(bytes(2**20)).status_code == 200
    old.parent.mkdir()
    old.write_bytes(bytes(2**20))
    time.sleep(2.5)  # until the size of the folder is measured again
    full = send(b"1" * 2**19)
    assert full.status_code == 507 and full.text == FULL and is_one_sentence(FULL)
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]
    os.utime(old, (0, 0))
    time.sleep(2.5)
    assert send(b"1" * 2**19).status_code == 200 and not old.exists()  # swept to make room


def test_what_a_former_run_left_is_gone_after_a_start(start, tmp_path):
    folder, then = tmp_path / "uploads" / NAME, time.time() - SIX_HOURS - 60
    left = [folder / ("ab" * 32) / "a.png", folder / "taken" / ("ab" * 32) / "report.html", folder / "deep_links" / "a" / "state.json"]
    for path in left:
        for name, written in ((path, then), (path.with_name("young"), then + 3600)):
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(b"left")
            os.utime(name, (written, written))
    url, _ = start()
    end = time.monotonic() + 60
    while any(path.exists() for path in left) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(path.exists() for path in left) and all(path.with_name("young").exists() for path in left)
    (path,) = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", png())}).json()
    assert folder in Path(path).parents and '"error": null' in answer(url, "analyze", [{"path": path}, *REST])
