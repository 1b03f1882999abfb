"""Published heads: the download, on loopback."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import numpy as np
import pytest
from mirror import Mirror
from paths import ROOT
from released_files import (
    CONCEPT,
    LINEAR,
    ONE_OF_EACH,
    ORTHOGONAL,
    UNIVFD,
    Marker,
    as_bytes,
    direct_logits,
    features_for,
    packed,
    refusal,
    synthetic_state,
)

from detector import assets
from detector.hub import download
from detector.methods import published
from detector.methods.published import SOURCES, fetch, load

# --- download ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_fetch_and_load(name: str, publish: Callable, mirror: Mirror, tmp_path: Path) -> None:
    content, steps = publish(name), []
    head = load(name, progress=lambda done, total: steps.append((done, total)))
    assert head.verified
    np.testing.assert_allclose(head.logits(features_for(name)), direct_logits(synthetic_state(name), features_for(name)), atol=2e-4)
    assert steps == sorted(steps) and steps[-1] == (len(content), len(content))
    path = fetch(name)
    assert path == tmp_path / "cache" / SOURCES[name].file and path.read_bytes() == content
    assert mirror.ranges == [None]  # the second time it came from the cache
    assert not list(path.parent.glob("*.partial"))


def test_cache_argument_and_default_folder(publish: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(UNIVFD)
    assert fetch(UNIVFD, tmp_path / "elsewhere") == tmp_path / "elsewhere" / "univfd" / "fc_weights.pth"
    assert download.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CUESCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(assets.sys, "platform", "linux")
    assert download.cache_folder() == tmp_path / "xdg" / "cuescope"


def test_cut_half_way_and_resumed(publish: Callable, mirror: Mirror) -> None:
    content = publish(CONCEPT)
    half = mirror.cut_after = len(content) // 2
    message = refusal(lambda: fetch(CONCEPT))
    path = published.cache_path(CONCEPT)
    partial = path.with_name(f"{path.name}.partial")
    assert f"{half} of {len(content)} bytes" in message and not path.exists()
    assert partial.read_bytes() == content[:half]
    steps: list[int] = []
    assert fetch(CONCEPT, progress=lambda done, total: steps.append(done)).read_bytes() == content
    assert mirror.ranges == [None, f"bytes={half}-"] and steps[0] > half
    assert not partial.exists() and load(CONCEPT).verified


def test_resumed_from_a_server_without_ranges(publish: Callable, mirror: Mirror) -> None:
    content = publish(ORTHOGONAL)
    mirror.cut_after, mirror.ignore_range = 1000, True
    refusal(lambda: fetch(ORTHOGONAL))
    assert fetch(ORTHOGONAL).read_bytes() == content
    assert mirror.ranges == [None, "bytes=1000-"]


def test_resumed_from_a_server_that_refuses_ranges(publish: Callable, mirror: Mirror) -> None:
    content = publish(ORTHOGONAL)
    mirror.cut_after, mirror.refuse_range = 1000, True
    refusal(lambda: fetch(ORTHOGONAL))
    assert fetch(ORTHOGONAL).read_bytes() == content
    assert mirror.ranges == [None, "bytes=1000-", None]


def test_cut_after_the_last_byte_needs_no_network(publish: Callable, mirror: Mirror) -> None:
    content = publish(UNIVFD)
    path = published.cache_path(UNIVFD)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.partial").write_bytes(content)
    assert fetch(UNIVFD).read_bytes() == content and mirror.ranges == []


@pytest.mark.parametrize("left", [b"stale" * 40, bytes(10_000)])
def test_spoilt_partial_file_is_dropped(left: bytes, publish: Callable, mirror: Mirror) -> None:
    content = publish(UNIVFD)
    path = published.cache_path(UNIVFD)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.partial").write_bytes(left)
    assert fetch(UNIVFD).read_bytes() == content and mirror.ranges[-1] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_chunked_answers_and_cuts(chunked: bool, publish: Callable, mirror: Mirror) -> None:
    content = publish(ORTHOGONAL)
    mirror.chunked, mirror.cut_after = chunked, 2000
    refusal(lambda: fetch(ORTHOGONAL))
    assert fetch(ORTHOGONAL).read_bytes() == content


def test_tampered_file_is_deleted_unopened(publish: Callable, mirror: Mirror, tmp_path: Path) -> None:
    content, marker = publish(LINEAR), tmp_path / "ran"
    hostile = as_bytes(packed(LINEAR, Marker(marker)))
    mirror.files[SOURCES[LINEAR].file] = (hostile + bytes(len(content)))[: len(content)]
    assert "checksum" in refusal(lambda: load(LINEAR))
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == [] and not marker.exists()
    mirror.files[SOURCES[LINEAR].file] = content
    assert load(LINEAR).verified


def test_tampered_rest_of_a_resumed_file(publish: Callable, mirror: Mirror) -> None:
    content = publish(LINEAR)
    mirror.cut_after = 3000
    refusal(lambda: fetch(LINEAR))
    mirror.files[SOURCES[LINEAR].file] = content[:-1] + bytes([content[-1] ^ 1])
    assert "checksum" in refusal(lambda: fetch(LINEAR))
    assert not [path for path in download.cache_folder().rglob("*.partial")]


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0", lambda _: b"v"])
@pytest.mark.parametrize("chunked", [False, True])
def test_file_of_another_length(change: Callable, chunked: bool, publish: Callable, mirror: Mirror) -> None:
    content = publish(UNIVFD)
    mirror.files[SOURCES[UNIVFD].file], mirror.chunked = change(content), chunked
    if chunked and len(change(content)) > len(content):  # no length is announced; what was asked for is intact
        assert fetch(UNIVFD).read_bytes() == content
        return
    refusal(lambda: fetch(UNIVFD))
    refusal(lambda: fetch(UNIVFD))
    assert not published.cache_path(UNIVFD).exists()
    mirror.files[SOURCES[UNIVFD].file] = content
    assert fetch(UNIVFD).read_bytes() == content


@pytest.mark.parametrize("span", ["bytes 7-9/10", "nonsense", "bytes 700-{last}/{length}", "bytes 500-{last}/*"])
def test_wrong_range_in_the_answer(span: str, publish: Callable, mirror: Mirror) -> None:
    content = publish(UNIVFD)
    mirror.cut_after = 500
    refusal(lambda: fetch(UNIVFD))
    mirror.content_range = span.format(last=len(content) - 1, length=len(content))
    assert fetch(UNIVFD).read_bytes() == content  # the kept part is dropped, the file taken whole
    assert mirror.ranges == [None, "bytes=500-", None]


def test_spoilt_cache_is_replaced(publish: Callable, mirror: Mirror) -> None:
    content = publish(UNIVFD)
    path = fetch(UNIVFD)
    path.write_bytes(b"x" * len(content))
    assert load(UNIVFD).verified and path.read_bytes() == content and len(mirror.ranges) == 2


@pytest.mark.parametrize("status", [403, 404, 416, 429, 500, 503])
def test_http_errors(status: int, publish: Callable, mirror: Mirror) -> None:
    publish(UNIVFD)
    mirror.status = status
    assert str(status) in refusal(lambda: load(UNIVFD))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "file:///etc", "nowhere", "http://", "http://127.0.0.1:x", "http://a b"])
def test_unreachable_and_unusable_addresses(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", address)
    refusal(lambda: load(UNIVFD))


def test_mirror_on_another_scheme(publish: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = publish(UNIVFD)
    (tmp_path / "univfd").mkdir()
    (tmp_path / "univfd" / "fc_weights.pth").write_bytes(content)
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", tmp_path.as_uri())
    assert "must begin with http" in refusal(lambda: fetch(UNIVFD))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset"), IncompleteRead(b"x"), OSError()])
def test_connection_that_breaks_while_reading(error: Exception, publish: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    content = publish(UNIVFD)
    with monkeypatch.context() as patch:

        def broken(self: HTTPResponse, amount: int) -> bytes:
            raise error

        patch.setattr(HTTPResponse, "read1", broken)
        refusal(lambda: fetch(UNIVFD))
    assert fetch(UNIVFD).read_bytes() == content


def test_silent_server(publish: Callable, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(UNIVFD)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    mirror.silent.clear()
    assert "no answer" in refusal(lambda: fetch(UNIVFD))


def test_cache_that_cannot_be_written(publish: Callable, tmp_path: Path) -> None:
    publish(UNIVFD)
    (tmp_path / "occupied").write_text("a file where a folder should be")
    assert "cannot be kept" in refusal(lambda: fetch(UNIVFD, tmp_path / "occupied"))


def test_cancelled_download_can_go_on(publish: Callable) -> None:
    content = publish(CONCEPT)

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(CONCEPT, progress=cancel)
    assert fetch(CONCEPT).read_bytes() == content


def test_threads_share_one_download(publish: Callable, mirror: Mirror) -> None:
    content, results = publish(CONCEPT), []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        results.append(fetch(CONCEPT).read_bytes() == content)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    if sys.platform != "win32":
        assert mirror.ranges == [None]


def test_import_is_light_and_offline() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise SystemExit('network at import')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import detector.methods.published\n"
        "heavy = {'open_clip', 'torchvision', 'transformers', 'gradio', 'timm', 'sklearn', 'cv2'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
