"""The tabs beside Analyze: every action as an endpoint, and each tab in Chromium at three widths."""

import json
import shutil
from pathlib import Path

import pytest
from artefacts import keep_screenshot
from gradio_client import Client, handle_file
from sets import archive, jpeg, pictures, two_archives

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TABS = {"Compare": "#compare-start", "What if": "#whatif-reset", "Batch": "#batch-start", "Train": "#train-start", "Teach": "#quiz-start"}


def test_every_action_of_the_tabs_has_a_named_endpoint(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    names = (
        "compare edit compare_maps what_if sweep batch_start batch_step batch_cancel batch_view batch_map batch_open batch_csv batch_jsonl"
    )
    assert {f"/{name}" for name in [*names.split(), "train", "calibrate", "lead", "trained_head", "trained_card"]} <= set(named)


def test_a_batch_through_the_endpoints(client, tmp_path):
    path = archive(tmp_path / "set.zip", {f"{name}/{k}.jpg": jpeg(pictures(1, k)[0]) for k, name in enumerate(("real", "synthetic"))})
    key, line, *_ = client.predict([handle_file(str(path))], "", "embedded", "", api_name="/batch_start")
    assert "0 of 2 images" in line
    assert "All 2 images are done" in client.predict(key, api_name="/batch_step")[0]
    rows = client.predict(key, "number", "", "", "", 1, api_name="/batch_view")
    assert [row[2] for row in (rows["data"] if isinstance(rows, dict) else rows)] == ["0.jpg", "1.jpg"]
    lines = Path(client.predict(key, api_name="/batch_jsonl")).read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [0, 1]
    with pytest.raises(Exception, match="no longer on the server"):
        client.predict("0" * 32, api_name="/batch_csv")


def test_a_detector_is_trained_taken_away_and_leads(client, server, tmp_path, picture):
    real, synthetic = (handle_file(str(path)) for path in two_archives(tmp_path, 20, qualities=(95, 60)))
    card = client.predict([real], [synthetic], "", "linear_probe", "embedded", api_name="/train")[0]
    assert "Warning" in card and "JPEG quality 1.00" in card
    choice, note = client.predict(api_name="/lead")
    record = client.predict(handle_file(picture), choice, "combined", api_name="/analyze")
    assert record["leader"] == "embedded/linear_probe@yours" and "linear_probe@yours leads" in note
    assert Path(client.predict(api_name="/trained_head")).name == "linear_probe.safetensors"
    stranger = Client(server, verbose=False)
    try:
        with pytest.raises(Exception, match="Train a detector first"):
            stranger.predict(api_name="/trained_head")
    finally:
        stranger.close()


def test_compare_and_what_if_through_the_endpoints(client, picture):
    edited = client.predict(handle_file(picture), "film grain", 0.6, api_name="/edit")
    edited = edited["path"] if isinstance(edited, dict) else edited
    assert "They differ most in" in client.predict(handle_file(picture), handle_file(edited), "embedded", api_name="/compare")[0]
    assert "blur 2" in client.predict(handle_file(picture), '{"blur": 2}', "embedded", api_name="/what_if")[2]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_each_tab_fits_and_reports_no_error(browser, server, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server, timeout=120_000)
    page.wait_for_selector("#image", timeout=120_000)
    for name, button in TABS.items():
        open_tab(page, name)
        page.wait_for_selector(button, timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, name
        keep_screenshot(page, f"{name}-{width}")
    assert errors == []
    context.close()


def test_a_batch_goes_on_after_a_reload_and_a_dot_opens_its_image(browser, server, tmp_path):
    files = {f"{name}/{k}{i}.jpg": jpeg(p) for k, name in enumerate(("real", "synthetic")) for i, p in enumerate(pictures(5, k))}
    path = archive(tmp_path / "set.zip", files)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(server, timeout=120_000)
    page.wait_for_selector("#image", timeout=120_000)
    open_tab(page, "Batch")
    page.locator("#batch-files input[type=file]").set_input_files(str(path))
    page.wait_for_selector("#batch-files .file-preview", timeout=60_000)
    page.locator("#batch-start").click()
    page.wait_for_function("document.querySelector('#batch-progress').innerText.includes('of 10 images')", timeout=120_000)
    page.reload()
    page.wait_for_selector("#batch-progress", timeout=120_000)  # the address names the tab
    page.wait_for_function("document.querySelector('#batch-progress').innerText.includes('All 10 images are done')", timeout=300_000)
    page.wait_for_selector("#batch-roc .js-plotly-plot .main-svg", timeout=60_000)
    page.wait_for_function("document.querySelectorAll('#batch-table img').length > 0", timeout=60_000)
    page.locator("#batch-draw").click()
    page.wait_for_selector("#batch-map .js-plotly-plot[data-listens]", timeout=120_000)
    dot = page.locator("#batch-map .scatterlayer .point").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#image img", timeout=60_000)
    context.close()


def open_tab(page, name: str) -> None:
    """Choose a tab; on a narrow page it may lie in the menu of tabs that did not fit."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.count() and tab.first.is_visible():
        return tab.first.click()
    page.locator(".overflow-menu > button").first.click()
    page.locator(".overflow-dropdown button", has_text=name).first.click()
