"""app.py: every action is an endpoint with a name and an explanation, and what serves the page is set on purpose."""

import inspect
import json
import os
import re

import gradio as gr
import pytest
from packaging.requirements import Requirement
from paths import ROOT

import app
from detector.data.images import MAX_BYTES
from interpret.panels import mcp

README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIREMENTS = {r.name: r for r in map(Requirement, (ROOT / "requirements.txt").read_text().splitlines())}


@pytest.fixture(scope="module")
def demo():
    return app.build_demo()


@pytest.fixture
def demo_with_mcp(monkeypatch):
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    return app.build_demo()


def actions(demo, visibility="public") -> list:
    """What Python does on an event; events that only a script in the browser handles have no function."""
    return [action for action in demo.fns.values() if action.fn is not None and action.api_visibility == visibility]


def test_every_public_action_has_a_name_and_explains_itself(demo):
    for action in actions(demo):
        text = action.fn.__doc__ or ""
        assert isinstance(action.api_name, str) and re.fullmatch("[a-z_]+", action.api_name), action.name
        assert text.split("\n")[0].endswith(".") and "Returns:" in text, f"/{action.api_name} does not explain itself"
        if [component for component in action.inputs if not isinstance(component, gr.State)]:
            assert "Args:" in text, f"/{action.api_name} does not explain its inputs"
    names = [action.api_name for action in actions(demo)]
    assert names[0] == "analyze" and len(set(names)) == len(names) and not any(re.search(r"_\d+$", name) for name in names)


def test_the_api_s_own_description_lists_them(demo):
    described = demo.get_api_info()
    assert set(described["named_endpoints"]) == {f"/{action.api_name}" for action in actions(demo)}
    assert not described["unnamed_endpoints"]


def test_every_action_waits_in_a_line_that_was_named_on_purpose(demo):
    for action in actions(demo) + actions(demo, "private"):
        assert action.concurrency_id.isidentifier(), action.api_name  # Gradio's own choice is a number


TOOLS = ["analyze_image", "compare_images", "what_if_image", "report_image"]


def test_mcp_clients_get_four_tools_without_a_session(demo, demo_with_mcp):
    tools = actions(demo_with_mcp)
    assert [tool.api_name for tool in tools] == TOOLS
    for tool in tools:
        assert not any(isinstance(c, gr.State) for c in [*tool.inputs, *tool.outputs])
        assert "Args:" in tool.fn.__doc__ and "Returns:" in tool.fn.__doc__
        names = list(inspect.signature(tool.fn).parameters)
        assert names == [component.label for component in tool.inputs]  # what is described is what is asked for
    assert {a.api_name for a in actions(demo)} <= {a.api_name for a in actions(demo_with_mcp, "undocumented")}
    assert not set(TOOLS) & {action.api_name for action in actions(demo)}


def test_every_image_of_a_tool_passes_the_gate(demo_with_mcp):
    from interpret.panels.gate import image_file

    images = [c for tool in actions(demo_with_mcp) for c in tool.inputs if isinstance(c, gr.Image)]
    assert len(images) == 5 and all(image.preprocess is image_file for image in images)


@pytest.fixture
def unusable(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    return str(broken)


def test_analyze_answers_in_json(picture, unusable):
    assert json.loads(mcp.analyze_image(picture))["verdict"]["label"] in ("real", "synthetic", "inconclusive")
    assert "not an image" in json.loads(mcp.analyze_image(unusable))["error"]
    assert json.loads(mcp.analyze_image(None))["error"] == mcp.NO_IMAGE


def test_compare_answers_in_json(picture, unusable):
    same = json.loads(mcp.compare_images(picture, picture))
    assert same["error"] is None and same["verdicts"][0]["label"] == same["verdicts"][1]["label"]
    assert len(same["differences"]) == 40 and same["differences"][0]["size"] < 0.001
    for pair in ((picture, unusable), (unusable, picture)):
        assert "not an image" in json.loads(mcp.compare_images(*pair))["error"]
    assert json.loads(mcp.compare_images(picture, None))["error"] == mcp.NO_IMAGE


def test_what_if_answers_in_json(picture, unusable):
    answer = json.loads(mcp.what_if_image(picture, "film grain", 0.8, blur=1))
    assert answer["settings"] == "film grain 0.8, blur 1" and answer["error"] is None
    sizes = [row["size"] for row in answer["differences"]]
    assert sizes[0] > 0.1 and sizes == sorted(sizes, reverse=True)
    as_it_is = json.loads(mcp.what_if_image(picture))
    assert as_it_is["settings"] == "as it is" and as_it_is["verdicts"][0]["label"] == as_it_is["verdicts"][1]["label"]
    assert "no operation of that name" in json.loads(mcp.what_if_image(picture, "<b>"))["error"]
    assert "between 10 and 100" in json.loads(mcp.what_if_image(picture, jpeg=5))["error"]
    assert "not an image" in json.loads(mcp.what_if_image(unusable))["error"]
    assert json.loads(mcp.what_if_image(None))["error"] == mcp.NO_IMAGE


def test_report_gives_a_file(picture, unusable, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = mcp.report_image(picture)
    assert path.startswith(str(tmp_path)) and "<h2>Orthogonal units</h2>" in open(path, encoding="utf-8").read()
    with pytest.raises(gr.Error, match="not an image"):
        mcp.report_image(unusable)
    with pytest.raises(gr.Error, match="Give an image"):
        mcp.report_image(None)


def test_limits_of_page_and_library_agree():
    assert app.MAX_UPLOAD == f"{MAX_BYTES // 2**20}mb" and app.LAUNCH["max_file_size"] == app.MAX_UPLOAD


def test_nothing_is_kept_or_told(demo):
    assert app.LAUNCH["run_history"] is False and app.LAUNCH["enable_monitoring"] is False
    assert not demo.analytics_enabled
    assert app.QUEUE["api_open"] is False and app.QUEUE["max_size"] < 100


def front_matter(key: str) -> str:
    return re.search(f"^{key}: *(.*)$", README.split("---")[1], re.MULTILINE).group(1).strip('"')


def test_the_space_s_gradio_and_python_meet_the_requirements():
    assert front_matter("sdk_version") in REQUIREMENTS["gradio"].specifier
    requires = re.search('requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert front_matter("python_version") in Requirement(f"python{requires}").specifier
    assert (ROOT / front_matter("app_file")).is_file()


@pytest.mark.parametrize("torch, torchvision", [("2.8.0", "0.23.0"), ("2.9.1", "0.24.1"), ("2.10.0", "0.25.0"), ("2.11.0", "0.26.0")])
def test_the_versions_that_zero_gpu_offers_are_allowed(torch, torchvision):
    assert torch in REQUIREMENTS["torch"].specifier and torchvision in REQUIREMENTS["torchvision"].specifier


def test_the_four_papers_are_linked():
    for number in ("2604.04608", "2602.12381", "2511.00427", "2508.12341"):
        assert f"https://arxiv.org/abs/{number}" in README


def test_a_picture_is_written_once_and_whole(tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    from interpret.panels.components import picture_file

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    path = picture_file(pixels)
    before = os.stat(path).st_ino
    assert picture_file(Image.fromarray(pixels)) == path and os.stat(path).st_ino == before  # no second writing
    assert np.array_equal(np.asarray(Image.open(path)), pixels) and path.startswith(str(tmp_path))
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["image.png"]
