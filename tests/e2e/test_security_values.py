"""What a stranger sends to a real server: huge bodies and wrong types."""

import json
import re
from pathlib import Path

import httpx
import pytest
from gradio_client.exceptions import AppError
from strangers import HUGE, MARKUP, REST, analyse, answer, error, is_one_sentence, through_queue

from interpret.panels.limits import TOO_LONG

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


def test_huge_values_are_refused_and_not_kept(own_server, own_client):
    url, process, _ = own_server
    every, before = arguments(own_client), resident(process)
    assert len(every) > 15
    for name, at, values, _ in every:
        body = json.dumps({"data": [*values[:at], "x" * HUGE, *values[at + 1 :]]}).encode()
        told = httpx.post(f"{url}/gradio_api/call{name}", content=body, headers={"content-type": "application/json"}, timeout=60)
        assert told.status_code == 413 and told.text == TOO_LONG
    assert resident(process) - before < 60


def test_bodies_without_a_length_are_counted_as_they_come(own_server, own_client):
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
PLACE = [True, "0.5", "", [], [0.5], {}, {"a": 1}]
FILES = [5, True, "a.png", {"a": 1}, {"path": 5}, [5], [{"path": "a.png"}]]
IMAGE = [5, True, "a.png", [], {}, {"a": 1}, {"path": 5}, [{"path": "a.png"}]]


def wrong_values(about: dict) -> list:
    kinds = {"Slider": NUMBER, "Image": IMAGE, "File": FILES, "Number": PLACE}
    if about["type"].get("type") == "array":
        return NAMES
    if about["component"] == "Slider" and about["parameter_default"] > 1:
        return [value for value in NUMBER if value != 2]  # this slider reaches further
    if about["component"] == "Radio" and about["parameter_default"] == 0:
        return WHOLE
    return kinds.get(about["component"], TEXT)


def test_every_wrong_type_in_every_argument_gets_one_sentence(own_client):
    tried, _ = 0, analyse(own_client)
    for name, at, values, about in arguments(own_client):
        for wrong in wrong_values(about):
            with pytest.raises(AppError) as caught:
                own_client.predict(*values[:at], wrong, *values[at + 1 :], api_name=name)
            assert is_one_sentence(str(caught.value)), (name, at, wrong, str(caught.value))
            tried += 1
    assert tried > 150


def test_nothing_at_all_gets_a_sentence_or_an_answer(own_client):
    analyse(own_client)
    for name, at, values, _ in arguments(own_client):
        try:
            own_client.predict(*values[:at], None, *values[at + 1 :], api_name=name)
        except AppError as refusal:
            assert is_one_sentence(str(refusal)), (name, at, str(refusal))


def test_too_few_and_too_many_values_get_one_sentence_or_an_answer(url):
    for name in ("analyze", "heatmap", "caption", "probe", "use_model"):
        assert is_one_sentence(error(answer(url, name, [])))
    assert "event: complete" in answer(url, "analyze", [None, *REST, 5, {}])


# Actions of the other tabs, which ask for images, a batch or a round of the quiz first; tests/tabs gives them unknown names.
TABS = ("/compare", "/edit", "/what_if", "/sweep", "/batch", "/train", "/calibrate", "/lead", "/quiz")


def test_unknown_names_are_refused_without_being_repeated(own_client):
    refused, image = 0, analyse(own_client)
    for name, at, values, about in sorted(arguments(own_client), key=lambda each: each[0] == "/analyze"):  # last: it forgets the image
        if (
            about["component"] in ("Slider", "Image")
            or name in ("/probe", "/caption", "/caption_view", "/generate")
            or name.startswith(TABS)
        ):
            continue
        wrong = [MARKUP] if wrong_values(about) is NAMES else MARKUP
        values = [image, *values[1:]] if name == "/analyze" else values
        told = json.dumps(own_client.predict(*values[:at], wrong, *values[at + 1 :], api_name=name), ensure_ascii=False, default=str)
        falls_back = name in ("/use_model", "/use_captioner") and at == 1  # the backbone in use is only where to fall back to
        assert "onerror" not in told and (falls_back or re.search("There is no |There are|there are|names no", told))
        refused += 1
    assert refused >= 9


def test_an_unexpected_failure_tells_nothing_of_the_server(url):
    """There is no example of that number; Gradio would name the file and the line in which that came out."""
    told = through_queue(url, [], "a", "choose", {"index": 10**9, "value": None})
    completed = next(json.loads(line[6:]) for line in told.splitlines() if "process_completed" in line)
    assert not completed["success"] and is_one_sentence(completed["output"]["error"])
