"""What a stranger sends to a real server: paths of its disk, addresses of its network, closed routes."""

import base64
import json
from pathlib import Path

import httpx
import pytest
from strangers import META, QUEUED, REST, answer, error, is_one_sentence, png, through_queue

from interpret.panels.address import REFUSED
from interpret.panels.gate import NO_UPLOAD

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


def test_a_file_in_any_other_argument_is_refused_in_the_same_way(own_client, url, folder):
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


def test_every_way_to_the_action_refuses_the_same(url, folder):
    path = server_paths(folder)["private"]
    for meta in ({}, META):
        payload = {"path": path} | meta
        assert NO_UPLOAD in through_queue(url, [payload, *QUEUED], f"thief{len(meta)}")
        for route in ("run/analyze", "api/analyze", "run/predict"):
            body = {"data": [payload, *QUEUED], "session_hash": "thief"}
            direct = httpx.post(f"{url}/gradio_api/{route}", json=body, timeout=60)
            assert direct.status_code >= 400 and "private" not in direct.text
        named = httpx.post(f"{url}/gradio_api/call/v2/analyze", json={"image": payload, "backbone": "embedded", "training": "combined"})
        assert NO_UPLOAD in httpx.get(f"{url}/gradio_api/call/analyze/{named.json()['event_id']}", timeout=60).text


def test_nothing_of_a_refused_file_can_be_looked_at_later(url, folder):
    path = server_paths(folder)["private"]
    through_queue(url, [{"path": path}, *QUEUED], "later")
    assert "private" not in httpx.get(f"{url}/gradio_api/deep_link", params={"session_hash": "later"}).text
    assert not list(folder.glob("deep_links/*/state.json"))
    for name in (path, "/etc/passwd", "app.py", f"{folder}/../private.png"):
        assert httpx.get(f"{url}/gradio_api/file={name}").status_code == 403


def test_an_upload_and_an_example_are_taken(url):
    posted = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", png())})
    (path,) = posted.json()
    for meta in ({}, META):
        assert '"error": null' in answer(url, "analyze", [{"path": path} | meta, *REST])
    told = through_queue(url, [], "example", "choose", {"index": 0, "value": None})
    completed = next(json.loads(line[6:]) for line in told.splitlines() if "process_completed" in line)
    example = completed["output"]["data"][0]
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
