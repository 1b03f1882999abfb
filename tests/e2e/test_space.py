"""`python app.py` started as a Hugging Face Space starts it, and with the switch for MCP clients."""

import json
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from paths import ROOT


def test_a_space_starts_without_a_home_and_answers(start, picture, tmp_path):
    nowhere = "/proc/nowhere"  # no user may make a folder there
    url, log = start(
        SPACE_ID="user/cuescope",
        SPACE_HOST="user-cuescope.hf.space",
        SYSTEM="spaces",
        HOME=nowhere,
        HF_HOME=nowhere,
        SPACE_AUTHOR_NAME="user",
        SPACE_REPO_NAME="cuescope",
        CUESCOPE_CACHE=f"{nowhere}/cuescope",
    )
    client = Client(url, verbose=False)
    record = client.predict(handle_file(picture), api_name="/analyze")
    answer = client.predict("ViT-L-14-quickgelu/openai", "embedded", api_name="/use_model")
    client.close()
    assert record["error"] is None and record["verdict"]["label"] in ("real", "synthetic", "inconclusive")
    assert "Still in use: embedded" in answer[-1]  # nothing can be kept, so nothing is fetched, and the page stays
    said = log.read_text()  # Gradio's own threads on Spaces may complain, for instance where `spaces` is absent
    assert f"Running on local URL:  {url}" in said and not any(f"{ROOT}/{own}" in said for own in ("app.py", "detector", "interpret"))


def test_an_mcp_client_uses_the_tools(start, picture):
    pytest.importorskip("mcp", reason="needs gradio[mcp]")
    import asyncio
    import base64

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    url, _ = start(GRADIO_MCP_SERVER="True")
    image = "data:image/jpeg;base64," + base64.b64encode(Path(picture).read_bytes()).decode()
    calls = {
        "analyze_image": {"image": image},
        "compare_images": {"first": image, "second": image},
        "what_if_image": {"image": image, "operation": "film grain", "strength": 0.9},
        "report_image": {"image": image},
    }

    async def ask() -> tuple[list[str], list[str]]:
        async with streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            return tools, [(await session.call_tool(name, values)).content[0].text for name, values in calls.items()]

    tools, answers = asyncio.run(ask())
    assert tools == list(calls)
    record, compared, changed = map(json.loads, answers[:3])
    assert record["error"] is None and record["verdict"]["label"] in ("real", "synthetic", "inconclusive")
    assert compared["error"] is None and [row for row in compared["differences"] if row["size"] > 0.001] == []
    assert changed["settings"] == "film grain 0.9" and changed["differences"][0]["size"] > 0.1
    report = httpx.get(answers[3])
    assert report.status_code == 200 and "<h2>Orthogonal units</h2>" in report.text
