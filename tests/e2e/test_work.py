"""Work that nobody waits for ends at its next step, and the queue is shared: on a real server, by counting steps and not seconds.

An action is held at a step of its own (`Gate`); meanwhile its visitor leaves, in each of the ways in which visitors leave; then it is let
go, and its further steps are counted. So the tests also hold Gradio to what `interpret/panels/queueing.py` relies on.
"""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import cv2
import httpx
import pytest
from gradio.queueing import Queue
from gradio_client import Client, handle_file

from detector.clip import captioning as captions
from detector.methods.physical import features as physical
from detector.methods.sdd.head import SddHead
from interpret import concepts, stability
from interpret.attribution import cam, explain
from interpret.panels import service

LONG = 120  # seconds after which a test gives up waiting


class Gate:
    """Wraps a function: counts its calls, once armed, and holds the first of them until it is opened."""

    def __init__(self, monkeypatch, owner, name: str):
        self.calls, self.armed = 0, False
        self.reached, self.opened = threading.Event(), threading.Event()
        real = getattr(owner, name)

        def wrapper(*arguments, **named):
            if self.armed:
                self.calls += 1
                self.reached.set()
                assert self.opened.wait(LONG)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, wrapper)

    def hold(self) -> None:
        self.armed = True


def wait_until(true) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def gate(monkeypatch):
    """Makes gates, and opens them at the end whatever happens."""
    made = []

    def make(owner, name):
        made.append(Gate(monkeypatch, owner, name))
        return made[-1]

    yield make
    for one in made:
        one.opened.set()


@pytest.fixture
def ends(monkeypatch):
    """Makes events that are set when a function has ended, however it did."""

    def make(owner, name) -> threading.Event:
        ended, real = threading.Event(), getattr(owner, name)

        def wrapper(*arguments, **named):
            try:
                return real(*arguments, **named)
            finally:
                ended.set()

        monkeypatch.setattr(owner, name, wrapper)
        return ended

    return make


@pytest.fixture
def visitor(server, tmp_path, photographs):
    """A client whose session has analysed an image of several windows."""
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), cv2.resize(photographs[0], (600, 600))[..., ::-1])
    client = Client(server, verbose=False)
    client.predict(handle_file(str(path)), api_name="/analyze")
    yield client
    client.close()


@pytest.fixture
def noticed(monkeypatch):
    """Set when Gradio has cleaned up after a closed connection."""
    event, real = threading.Event(), Queue.clean_events

    async def clean_events(self, **of):
        await real(self, **of)
        event.set()

    monkeypatch.setattr(Queue, "clean_events", clean_events)
    return event


def join(server: str, name: str, session: str, data=()) -> httpx.Response:
    """Put a job into the queue as the page does, which sends null for what the session holds."""
    config = httpx.get(f"{server}/config", timeout=LONG).json()
    action = next(d for d in config["dependencies"] if d["api_name"] == name)
    states, given = {c["id"] for c in config["components"] if c["type"] == "state"}, iter(data)
    values = [None if number in states else next(given) for number in action["inputs"]]
    return httpx.post(
        f"{server}/gradio_api/queue/join", timeout=LONG, json={"data": values, "fn_index": action["id"], "session_hash": session}
    )


def leave_page(server, client, name, data, gate, noticed) -> None:
    """As the page: join, listen to the session's stream, close it."""
    assert join(server, name, client.session_hash, data).status_code == 200
    with httpx.stream("GET", f"{server}/gradio_api/queue/data", params={"session_hash": client.session_hash}, timeout=LONG):
        assert gate.reached.wait(LONG)
        noticed.clear()
    assert noticed.wait(LONG)


def leave_curl(server, client, name, data, gate, noticed) -> None:
    """As curl: POST to /call/NAME, then GET the event, closed early."""
    body = {"data": list(data), "session_hash": client.session_hash}
    event = httpx.post(f"{server}/gradio_api/call/{name}", json=body, timeout=LONG).json()["event_id"]
    with httpx.stream("GET", f"{server}/gradio_api/call/{name}/{event}", timeout=LONG):
        assert gate.reached.wait(LONG)
        noticed.clear()
    assert noticed.wait(LONG)


def leave_cancel(server, client, name, data, gate, noticed) -> None:
    """As gradio_client, and as the page's Cancel."""
    job = client.submit(*data, api_name=f"/{name}")
    assert gate.reached.wait(LONG)
    job.cancel()


WAYS = pytest.mark.parametrize("leave", [leave_page, leave_curl, leave_cancel], ids=["page", "curl", "cancel"])
LONG_ACTIONS = {  # name → arguments, the whole work, what is called in each step, calls of one step
    "stability": ((), (stability, "stability"), (physical, "measure"), stability.PASS_SIZE),
    "heatmap": (("windows", 0.6, "quick", "logits"), (explain, "explain"), (cam, "_read"), 1),
    "drop_directions": (("Concept model",), (concepts, "drop_curve"), (concepts, "without"), 1),
}


def settle(demo) -> None:
    """Until no action runs and none waits; the thread of one that was cancelled may run on."""
    wait_until(lambda: len(demo._queue) == 0 and demo._queue.get_active_worker_count() == 0)


@WAYS
@pytest.mark.parametrize("name", LONG_ACTIONS)
def test_an_action_that_nobody_waits_for_ends_within_a_step(demo, server, visitor, gate, ends, noticed, name, leave):
    data, work, part, calls = LONG_ACTIONS[name]
    settle(demo)
    step, ended = gate(*part), ends(*work)
    step.hold()
    leave(server, visitor, name, data, step, noticed)
    step.opened.set()
    following = Client(server, verbose=False)  # whoever comes next is served
    try:
        assert following.predict(None, api_name="/analyze") is None
    finally:
        following.close()
    assert ended.wait(LONG)
    assert step.calls <= 2 * calls, f"{name} did {step.calls} steps for nobody"


@WAYS
def test_an_analysis_ends_between_its_parts(demo, server, visitor, gate, ends, noticed, leave, picture):
    settle(demo)
    caption, windows, ended = gate(captions, "image_tokens"), gate(SddHead, "prepare"), ends(service, "_analyze_file")
    windows.opened.set()
    caption.hold(), windows.hold()
    upload = httpx.post(f"{server}/gradio_api/upload", files={"files": open(picture, "rb")}).json()[0]
    image = {"path": upload, "meta": {"_type": "gradio.FileData"}}
    if leave is leave_cancel:
        image = handle_file(picture)
    leave(server, visitor, "analyze", [image, "embedded", "combined"], caption, noticed)
    caption.opened.set()
    assert ended.wait(LONG)
    assert caption.calls == 1 and windows.calls == 0


def test_a_stopped_action_leaves_no_trace_in_the_log(demo, server, visitor, gate, noticed, capfd):
    settle(demo)
    step = gate(cam, "_read")
    step.hold()
    capfd.readouterr()
    leave_page(server, visitor, "heatmap", ("windows", 0.6, "quick", "logits"), step, noticed)
    step.opened.set()
    settle(demo)
    assert "Cancelled" not in "".join(capfd.readouterr())


def test_an_action_that_was_stopped_can_be_asked_for_again(demo, server, visitor, gate, noticed):
    settle(demo)
    step = gate(cam, "_read")
    step.hold()
    leave_page(server, visitor, "heatmap", ("windows", 0.6, "quick", "logits"), step, noticed)
    step.opened.set()
    assert "Read through" in visitor.predict("windows", 0.6, "quick", api_name="/heatmap")[0]


# --- shares of the queue -------------------------------------------------------------------------------------------


@pytest.fixture
def busy(demo, server, visitor, gate):
    """The line of the model, held by another visitor's job. Opened and emptied at the end."""
    settle(demo)
    step = gate(cam, "_read")
    step.hold()
    job = visitor.submit("windows", 0.6, "quick", api_name="/heatmap")
    assert step.reached.wait(LONG)
    yield step
    step.opened.set()
    job.result(timeout=LONG)
    settle(demo)


NOTHING = (None, "embedded", "combined")


def test_a_visitor_has_two_jobs_of_one_action_waiting(busy, server):
    session = uuid.uuid4().hex
    assert [join(server, "analyze", session, NOTHING).status_code for _ in range(4)] == [200, 200, 429, 429]
    refusal = join(server, "analyze", session, NOTHING).json()["detail"]
    assert refusal.startswith("2 of your jobs of this kind are waiting") and refusal.endswith(".")
    assert join(server, "probe", session, ("a", "")).status_code == 200  # another action
    assert join(server, "analyze", uuid.uuid4().hex, NOTHING).status_code == 200  # another visitor


def test_a_visitor_has_eight_jobs_waiting_in_all(busy, server):
    session = uuid.uuid4().hex
    actions = [("analyze", NOTHING), ("probe", ("a", "")), ("stability", ()), ("faithfulness", ("tokens",)), ("first_caption", ())]
    answers = [join(server, name, session, data).status_code for name, data in actions for _ in range(2)]
    assert answers == [200] * 8 + [429] * 2


def test_without_a_session_the_address_counts(busy, server):
    def call():
        return httpx.post(f"{server}/gradio_api/call/analyze", json={"data": list(NOTHING)}, timeout=LONG).status_code

    assert [call() for _ in range(3)] == [200, 200, 429]
    assert join(server, "analyze", "127.0.0.1", NOTHING).status_code == 200  # a session is no address, whatever its name


def test_an_address_holds_at_most_half_of_the_places(busy, demo, server):
    half = demo._queue.max_size // 2
    answers = [join(server, "analyze", uuid.uuid4().hex, NOTHING) for _ in range(half + 1)]
    assert [answer.status_code for answer in answers] == [200] * half + [429]
    assert "your network address" in answers[-1].json()["detail"]


def test_twenty_clients_of_one_address_are_all_served(busy, server):
    def ask(_):
        client = Client(server, verbose=False)
        try:
            return client.predict(None, api_name="/analyze")
        finally:
            client.close()

    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(ask, range(20))
        busy.opened.set()
        assert list(answers) == [None] * 20


# --- what is forgotten ---------------------------------------------------------------------------------------------


def test_answers_for_a_closed_connection_are_not_held(demo, server, visitor, gate, noticed):
    settle(demo)
    step = gate(cam, "_read")
    step.hold()
    leave_page(server, visitor, "heatmap", ("windows", 0.6, "quick", "logits"), step, noticed)
    step.opened.set()
    settle(demo)
    queue = demo._queue
    assert visitor.session_hash not in {*queue.pending_messages_per_session, *queue.pending_event_ids_session}


def test_answers_that_nobody_fetches_are_bounded(demo):
    from interpret.panels.queueing import UNREAD

    assert demo._queue.pending_messages_per_session.max_size == demo._queue.pending_event_ids_session.max_size == UNREAD


def test_gradio_keeps_no_copy_of_what_is_shown_and_no_history(demo, visitor):
    settle(demo)
    session = demo.state_holder.session_data[visitor.session_hash]
    assert not [config for config in session.config_values.values() if "value" in config.get("props", {})]
    assert len(demo._queue.event_analytics) <= 1
