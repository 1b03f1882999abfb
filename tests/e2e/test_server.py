"""The endpoint through gradio_client: the contract, hostile files, many users at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
from gradio_client import Client, handle_file
from paths import ROOT


def analyze(client, path) -> dict:
    return client.predict(handle_file(str(path)), api_name="/analyze")


def test_the_endpoint_gives_the_same_object_as_the_library(client, suite, picture):
    record, own = analyze(client, picture), suite.analyze(picture).to_dict()
    assert record["error"] is None and record["verdict"]["label"] == own["verdict"]["label"]
    assert record["verdict"]["logit"] == pytest.approx(own["verdict"]["logit"], abs=1e-4)
    assert record["physical"] == pytest.approx(own["physical"])
    assert record["file"] == "temple.jpg"  # not the server's temporary folder


def test_analyze_is_the_first_named_endpoint(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert next(iter(named)) == "/analyze"


@pytest.mark.parametrize(
    "name, data",
    [
        ("empty.jpg", b""),
        ("text.png", b"hello"),
        ("page.jpg", b"<html><script>alert(1)</script></html>"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("cut.jpg", None),
    ],
)
def test_hostile_files_get_one_sentence(client, picture, tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(open(picture, "rb").read()[:3000] if data is None else data)
    record = analyze(client, path)
    assert record["error"] and "\n" not in record["error"] and "Traceback" not in record["error"]
    assert "verdict" not in record


def test_users_at_once_get_their_own_results(server, suite, tmp_path, photographs):
    paths = []
    for index in range(6):
        image = photographs[index % 2][:, : 200 + 10 * index]
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        paths.append(path)
    expected = [suite.analyze(path).to_dict()["verdict"]["logit"] for path in paths]

    def ask(path):
        client = Client(server, verbose=False)
        try:
            return analyze(client, path)["verdict"]["logit"]
        finally:
            client.close()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, paths)) == pytest.approx(expected, abs=1e-4)


def test_building_the_page_loads_no_weights():
    import subprocess
    import sys

    code = (
        "import app, sys; from interpret.panels import service; app.build_demo(); "
        "assert not service._suites and 'open_clip' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_action_has_a_named_endpoint(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert {
        "/analyze",
        "/probe",
        "/switch_off",
        "/drop_directions",
        "/caption",
        "/heatmap",
        "/faithfulness",
        "/blur",
        "/map_files",
        "/stability",
        "/use_model",
        "/get_heads",
        "/detectors",
        "/report",
        "/json_record",
    } <= set(named)


def test_an_api_client_probes_its_own_image(client, picture):
    analyze(client, picture)
    reading, _ = client.predict("a red car", "a blue car", api_name="/probe")
    assert reading.startswith("This image lies nearer to")
    assert "orthogonal: logit" in client.predict(["unit 1"], [], api_name="/switch_off")


def test_a_backbone_that_is_not_offered_is_refused(client, picture):
    record = client.predict(handle_file(str(picture)), "RN50/openai", "combined", api_name="/analyze")
    assert "not offered here" in record["error"]
    assert "embedded" in client.predict("../../etc", "embedded", api_name="/use_model")[-1]


def test_embedded_has_no_released_heads(client):
    assert "No head has been released" in client.predict("embedded", api_name="/get_heads")


def test_an_api_client_tries_changes_of_its_own_image(client, picture):
    analyze(client, picture)
    reading, _, table = client.predict(api_name="/stability")
    assert reading.startswith("**The verdict ")
    assert table["value"]["headers"][:2] == ["the image", "verdict"] and len(table["value"]["data"]) == 12


def test_stability_without_an_image_is_one_sentence(server):
    fresh = Client(server, verbose=False)
    assert fresh.predict(api_name="/stability")[0] == "Analyse an image first."
    fresh.close()


def test_the_report_and_the_record_can_be_taken_away(client, server, picture, tmp_path):
    record = analyze(client, picture)
    saved = Path(client.predict(api_name="/json_record"))
    assert saved.name == "cuescope-temple.json" and json.loads(saved.read_text()) == record
    page = Path(client.predict(api_name="/report"))
    assert page.name == "cuescope-temple.html" and "<h2>Orthogonal units</h2>" in page.read_text()
    stranger = Client(server, verbose=False)
    try:
        for name in ("/report", "/json_record"):
            with pytest.raises(Exception, match="Analyse an image first"):
                stranger.predict(api_name=name)
    finally:
        stranger.close()


def test_files_to_take_away_lie_in_the_cache_that_is_emptied(client, picture):
    from gradio.utils import get_upload_folder

    from interpret.panels import downloads, service

    _, seen = service.analyze(picture)
    for make in (downloads.make_report, downloads.make_record):
        assert Path(get_upload_folder()).resolve() in Path(make(seen)).resolve().parents


def heatmap_of(url: str, path, layer: str = "difference") -> tuple:
    """(words, rows of the table) of one visitor's heatmap."""
    client = Client(url, verbose=False)
    try:
        analyze(client, path)
        words, picture, _, trust, table = client.predict(layer, 0.6, "quick", api_name="/heatmap")
        assert cv2.imread(picture["path"] if isinstance(picture, dict) else picture).shape[2] == 3 and trust
        return words, table["data"]
    finally:
        client.close()


def test_two_users_at_once_get_their_own_maps(server, suite, tmp_path, photographs):
    from detector.data.images import load_photo
    from interpret.attribution import explain
    from interpret.panels.service import get_suite

    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path, image in zip(paths, photographs, strict=True):
        cv2.imwrite(str(path), image[:160, :200, ::-1])
    expected = [explain.rows(explain.explain(get_suite(), load_photo(path)), "difference") for path in paths]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda path: heatmap_of(server, path), paths))
    assert [table for _, table in found] == expected and expected[0] != expected[1]
    assert all("200 × 160" in words for words, _ in found)


def test_heatmap_actions_out_of_order_get_a_sentence(server, picture):
    client = Client(server, verbose=False)
    try:
        assert client.predict(api_name="/heatmap")[0] == "Analyse an image first."
        assert client.predict(api_name="/faithfulness")[0] == "Draw a heatmap first."
        assert client.predict(api_name="/blur")[0] == "Draw a heatmap first."
        analyze(client, picture)
        assert "There is no layer" in client.predict("<b>", 0.6, "quick", api_name="/heatmap")[0]
        assert client.predict(api_name="/heatmap")[1]
        words, picture_again = client.predict("residual", api_name="/blur")
        assert "With it blurred the verdict" in words and picture_again
        words, files = client.predict("residual", api_name="/map_files")
        assert "outline" in words
        names = [path.rsplit("/", 1)[-1] for path in (files["value"] if isinstance(files, dict) else files)]
        assert [name.rsplit(".", 1)[1] for name in names] == ["npy", "png", "json", "npy", "png"]
        words, deletion, _, areas = client.predict("tokens", api_name="/faithfulness")
        assert "this map beats" in words and deletion and len(areas["value"]["data"] if "value" in areas else areas["data"]) == 4
    finally:
        client.close()


def test_a_backbone_without_the_head_says_so():
    from types import SimpleNamespace

    import gradio as gr

    from interpret.panels.components import outputs
    from interpret.panels.sdd import build_heatmap, show_heatmap

    with gr.Blocks():
        panel = build_heatmap()
    suite = SimpleNamespace(heads={}, backbone=SimpleNamespace(name="ViT-L-14/openai", is_transformer=True))
    suite.roster = SimpleNamespace(suite_for=lambda method: suite)
    values = show_heatmap(SimpleNamespace(suite=suite))
    assert len(outputs(panel, type(values))) == len(values)
    assert "no sdd head was trained on it" in values.reading and values.ticket is None and not values.body.visible
