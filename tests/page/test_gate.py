"""interpret/panels/gate.py: what reaches an action, and what a session keeps of what was refused."""

import asyncio
import logging
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import SessionState

import app
from interpret.panels import gate
from interpret.panels import sdd as heatmap


@pytest.fixture(scope="module")
def demo():
    return app.build_demo()


def call(demo, name: str, values: list, state=None) -> list:
    index = next(number for number, action in demo.fns.items() if action.api_name == name)
    return asyncio.run(demo.process_api(index, values, state=state))["data"]


@pytest.mark.parametrize(
    "name, values",
    [
        ("get_heads", ["x" * 900_000]),
        ("probe", [None, "x" * 900_000, ""]),
        ("switch_off", [None, ["x" * 900_000], []]),
        ("analyze", [{"path": "/" + "x" * 900_000}, "embedded", "combined"]),
        ("probe", ["x" * 900_000, 5, ""]),
    ],
)
def test_a_session_keeps_nothing_of_a_refused_value(demo, name, values):
    state = SessionState(demo)
    with pytest.raises(gr.Error) as refusal:
        call(demo, name, values, state)
    assert len(str(refusal.value)) < 300
    assert "xxxx" not in str(list(state.components)) and not any("xxxx" in str(value) for value in state.state_data.values())


def test_a_state_is_never_what_the_client_says(demo):
    assert call(demo, "stability", [{"file": "/etc/passwd"}])[0] == "Analyse an image first."


def test_every_image_input_goes_through_the_gate(demo, monkeypatch):
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    for page in (demo, app.build_demo()):
        inputs = {block for action in page.fns.values() if action.fn for block in action.inputs}
        files = [block for block in inputs if isinstance(block, gr.Image | gr.File | gr.Gallery | gr.ImageEditor | gr.Video | gr.Audio)]
        checks = {gr.Image: gate.image_file, gr.File: gate.image_files}
        assert files and all(block.preprocess is checks[type(block)] for block in files)


@pytest.mark.parametrize(
    "files", [[{"path": "/etc/hostname"}], [{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}], ["/etc/hostname"]]
)
def test_files_that_are_no_uploads_are_refused(demo, files):
    with pytest.raises(gr.Error, match=gate.NO_UPLOAD):
        call(demo, "batch_start", [files, "", "embedded", ""])


def test_the_preprocess_alone_refuses_too(tmp_path):
    private = tmp_path / "private.png"
    private.write_bytes(b"private")
    for path in (str(private), str(tmp_path / "missing.png"), None):
        with pytest.raises(gr.Error, match=gate.NO_UPLOAD):
            gate.image_file(SimpleNamespace(path=path))
    assert gate.image_file(None) is None


def test_a_failure_is_one_sentence_for_the_visitor_and_a_traceback_for_the_log(caplog):
    def fail(text: str) -> str:
        """Fails."""
        raise KeyError("/private/path")

    with gate.Page() as page:
        text = gr.Textbox()
        text.submit(fail, text, text, api_name="fail")
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as caught:
        call(page, "fail", ["a"])
    assert caught.value.message == gate.FAILED and "/private/path" in caplog.text


def test_an_unknown_layer_is_refused_before_anything_is_computed(monkeypatch, suite):
    from interpret.attribution import explain
    from interpret.panels import service

    monkeypatch.setitem(service._suites, "embedded", suite)
    monkeypatch.setattr(explain, "explain", lambda *_, **__: pytest.fail("computed"))
    monkeypatch.setattr(service, "stored_analysis", lambda current: service.StoredAnalysis({}, object()))
    seen = service.CurrentImage("key", "a.png")
    for layer, detail in (("<b>", "quick"), ("windows", "<b>")):
        words = heatmap.heatmap(seen, layer, 0.6, detail)[1]
        assert words.startswith("There is no ") and "<b>" not in words
