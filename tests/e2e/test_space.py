"""`python app.py` started as a Hugging Face Space starts it, and with the switch for MCP clients."""

import json
from pathlib import Path

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


def test_an_mcp_client_analyses_an_image(start, picture):
    pytest.importorskip("mcp", reason="needs gradio[mcp]")
    import asyncio
    import base64

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    url, _ = start(GRADIO_MCP_SERVER="True")
    image = "data:image/jpeg;base64," + base64.b64encode(Path(picture).read_bytes()).decode()

    async def ask() -> tuple[list[str], dict]:
        async with streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            answer = await session.call_tool("analyze_image", {"image": image})
            return tools, json.loads(answer.content[0].text)

    tools, record = asyncio.run(ask())
    assert tools == ["analyze_image"]
    assert record["error"] is None and record["verdict"]["label"] in ("real", "synthetic", "inconclusive")
