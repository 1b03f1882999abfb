"""Published heads: parity with released numbers, the algebra, the file layouts, and the download, all on loopback."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.client import HTTPResponse, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

from detector.hub import download
from detector.methods import published
from detector.methods.published import NAMES, SOURCES, PublishedError, fetch, load

REFERENCE = ROOT.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "head_outputs.json").is_file(), reason=f"the released checkpoints are not in {REFERENCE}"
)
LINEAR, ORTHOGONAL, CONCEPT, UNIVFD = ONE_OF_EACH = (
    "clip-cues/linear_probe_cnnspot",
    "clip-cues/clip_orthogonal_synthclic",
    "clip-cues/cm_antonyms_combined",
    "univfd/fc",
)

# --- helpers: features, synthetic checkpoints, the algebra written a second time ---------------------------------


def features_for(name: str, seed: int = 0, rows: int = 4) -> torch.Tensor:
    """The released numbers belong to seed 0 with 4 rows."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal((rows, SOURCES[name].width)).astype(np.float32))


def synthetic_state(name: str) -> dict[str, torch.Tensor]:
    """Random weights under the released keys, spelt out here a second time, so that a renamed key shows."""
    method = "univfd" if name == UNIVFD else SOURCES[name].method
    head = "model.classification_head"
    shapes = {
        "univfd": {"weight": (1, 768), "bias": (1,)},
        "linear": {f"{head}.fc.weight": (1, 1024), f"{head}.fc.bias": (1,)},
        "orthogonal": {
            f"{head}.layers.0.weight": (8, 1024),
            f"{head}.layers.0.bias": (8,),
            f"{head}.to_logits.weight": (1, 8),
            f"{head}.to_logits.bias": (1,),
        },
        "concept": {
            "model.text_embeddings": (168, 768),
            "model.W_concepts.weight": (168, 768),
            "model.W_concepts.bias": (168,),
            "model.W_classifier.weight": (1, 168),
            "model.W_classifier.bias": (1,),
        },
    }[method]
    generator = torch.Generator().manual_seed(7)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    if method == "concept":
        state["model.text_embeddings"] = torch.nn.functional.normalize(state["model.text_embeddings"], dim=1)
    return state


def packed(name: str, state: object) -> object:
    if name == UNIVFD:
        return state
    return {"state_dict": state, "model_type": {"orthogonal": "clip"}.get(SOURCES[name].method, SOURCES[name].method)}


def as_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def checkpoint(folder: Path, name: str, content: object = None) -> Path:
    path = folder / "custom.ckpt"
    path.write_bytes(as_bytes(packed(name, synthetic_state(name)) if content is None else content))
    return path


def direct_logits(state: dict[str, torch.Tensor], features: torch.Tensor) -> np.ndarray:
    """The heads' definitions in float64 numpy, one image and one term at a time."""
    values = [np.asarray(tensor, dtype=np.float64) for tensor in state.values()]
    rows = np.asarray(features, dtype=np.float64)
    if len(values) == 2:  # w, b
        return np.array([values[0][0] @ row + values[1][0] for row in rows])
    if len(values) == 4:  # W, c, v, d, folded into one linear probe
        matrix, offsets, weight, bias = values
        return np.array([(weight[0] @ matrix) @ row + weight[0] @ offsets + bias[0] for row in rows])
    concepts, gates, gate_bias, weight, bias = values
    logits = []
    for row in rows:
        unit = row / np.sqrt((row**2).sum())
        terms = [
            w * (concept @ unit) / (1 + np.exp(-(gate @ unit + offset)))
            for concept, gate, offset, w in zip(concepts, gates, gate_bias, weight[0], strict=True)
        ]
        logits.append(sum(terms) + bias[0])
    return np.array(logits)


def assert_one_sentence(error: BaseException) -> None:
    text = str(error)
    assert text.endswith(".") and "\n" not in text and ". " not in text and len(text) < 700, text


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(PublishedError) as caught:
        call()
    assert_one_sentence(caught.value)
    return str(caught.value)


class Marker:
    """A pickle of this creates a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


# --- a mirror on loopback ------------------------------------------------------------------------------------------


class Mirror:
    """What the server holds and how it behaves; what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut_after: int | None = None  # bytes of the body, once
        self.ignore_range = False
        self.refuse_range = False
        self.chunked = False
        self.status = 200
        self.content_range: str | None = None
        self.silent = threading.Event()
        self.silent.set()


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.mirror
        mirror.ranges.append(self.headers.get("Range"))
        mirror.silent.wait(10)
        content = mirror.files.get(self.path.lstrip("/"))
        if content is None or mirror.status != 200:
            return self.send_error(404 if content is None else mirror.status)
        asked = None if mirror.ignore_range else self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and (mirror.refuse_range or start >= len(content)):
            return self.send_error(416)
        self.answer(content, start, partial=bool(asked))

    def answer(self, content: bytes, start: int, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        body = content[start:]
        if partial:
            span = self.mirror.content_range or f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if self.mirror.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.mirror.cut_after])
        self.mirror.cut_after = None


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing can leave the machine: port 9 of loopback answers nobody."""
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    state = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"mirror": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("CUESCOPE_PUBLISHED_URL", f"http://127.0.0.1:{server.server_port}/")
    yield state
    state.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Put a file on the mirror and pin it, as if it were the published one."""

    def put(name: str, content: bytes | None = None) -> bytes:
        content = as_bytes(packed(name, synthetic_state(name))) if content is None else content
        pinned = dataclasses.replace(SOURCES[name], sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        monkeypatch.setitem(published.SOURCES, name, pinned)
        mirror.files[pinned.file] = content
        return content

    return put


# --- the table -----------------------------------------------------------------------------------------------------


def test_thirteen_sources() -> None:
    expected = {
        f"clip-cues/{head}_{data}"
        for head in ("clip_orthogonal", "linear_probe", "cm_antonyms")
        for data in ("cnnspot", "synthbuster", "synthclic", "combined")
    }
    assert len(NAMES) == 13 and set(NAMES) == expected | {"univfd/fc"}
    assert len({source.sha256 for source in SOURCES.values()}) == 13
    assert len({source.file for source in SOURCES.values()}) == 13


@pytest.mark.parametrize("name", NAMES)
def test_source_fields(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name and len(source.sha256) == 64 and 0 < source.size < published.LARGEST_FILE
    assert source.url.startswith("https://raw.githubusercontent.com/") and source.licence == "MIT"
    assert source.url.endswith(source.file.partition("/")[2])
    assert source.paper in ("arXiv 2602.12381", "arXiv 2302.10174")
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.size = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (LINEAR, ("linear", "ViT-L-14-336-quickgelu/openai", "pooled", "bilinear", True, 336, 1024)),
        (ORTHOGONAL, ("orthogonal", "ViT-L-14-336-quickgelu/openai", "pooled", "bilinear", True, 336, 1024)),
        (CONCEPT, ("concept", "ViT-L-14-336-quickgelu/openai", "projected", "bicubic", True, 336, 768)),
        (UNIVFD, ("linear", "ViT-L-14-quickgelu/openai", "projected", "bilinear", False, 224, 768)),
    ],
)
def test_what_a_head_is_fed(name: str, expected: tuple) -> None:
    s = SOURCES[name]
    assert (s.method, s.backbone, s.feature, s.interpolation, s.resize, s.image_size, s.width) == expected


# --- parity with the released numbers ------------------------------------------------------------------------------


def reference(name: str) -> dict:
    heads = json.loads((REFERENCE / "head_outputs.json").read_text())["heads"]
    return heads["universal_fake_detect_fc" if name == UNIVFD else name.partition("/")[2]]


@needs_reference
@pytest.mark.parametrize("name", NAMES)
def test_parity_with_released_numbers(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    logits = head.logits(features)
    assert head.verified and head.source == SOURCES[name] and logits.shape == (4,)
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=2e-5, rtol=1e-6)
    torch.testing.assert_close(logits.sigmoid(), torch.tensor(expected["probabilities"]), atol=1e-5, rtol=0)
    assert (expected["file_sha256"], expected["file_bytes"]) == (head.source.sha256, head.source.size)


@needs_reference
@pytest.mark.parametrize("name", [name for name in NAMES if SOURCES[name].method == "orthogonal"])
def test_parity_of_orthogonal_units(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    torch.testing.assert_close(head.activations(features), torch.tensor(expected["activations"]), atol=2e-5, rtol=0)
    contributions = torch.tensor(expected["logit_contributions"])
    torch.testing.assert_close(head.contributions(features), contributions, atol=2e-5, rtol=0)
    assert float(head.bias) == pytest.approx(expected["logit_bias"])


@needs_reference
@pytest.mark.parametrize("name", [name for name in NAMES if SOURCES[name].method == "concept"])
def test_parity_of_concepts(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    torch.testing.assert_close(head.gates(features), torch.tensor(expected["gates"]), atol=2e-5, rtol=0)
    torch.testing.assert_close(head.contributions(features), torch.tensor(expected["contributions"]), atol=2e-5, rtol=0)
    similarities = torch.tensor(expected["similarities_first4"])
    torch.testing.assert_close(head.activations(features)[:, :4], similarities, atol=1e-6, rtol=0)
    torch.testing.assert_close(head.head.directions.norm(dim=1), torch.ones(168))
    assert float(head.bias) == pytest.approx(expected["classifier_bias"])


@needs_reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_released_weights_against_the_direct_formula(name: str, seed: int) -> None:
    path, features = REFERENCE / SOURCES[name].file, 3 * features_for(name, seed, rows=5)
    content = torch.load(path, weights_only=True, map_location="cpu")
    expected = direct_logits(content.get("state_dict", content), features)
    np.testing.assert_allclose(load(name, path).logits(features), expected, atol=2e-4, rtol=0)


# --- the algebra, on synthetic checkpoints -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("seed", [3, 4])
def test_logits_follow_the_definition(name: str, seed: int, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name, seed)
    assert not head.verified
    np.testing.assert_allclose(head.logits(features), direct_logits(synthetic_state(name), features), atol=2e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_contributions_sum_to_the_logit(name: str, tmp_path: Path) -> None:
    head, features = load(name, str(checkpoint(tmp_path, name))), features_for(name, 5)
    contributions = head.contributions(features)
    assert contributions.shape == (4, {ORTHOGONAL: 8, CONCEPT: 168}.get(name, SOURCES[name].width))
    assert head.bias.shape == ()
    torch.testing.assert_close(contributions.sum(1) + head.bias, head.logits(features), atol=0, rtol=0)


def test_orthogonal_units_by_hand(tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) for key, value in synthetic_state(ORTHOGONAL).items()}
    first, offsets, weight, bias = state
    state[first][2, 5], state[offsets][2], state[weight][0, 2], state[bias][0] = 4.0, 1.0, -0.5, 0.25
    head = load(ORTHOGONAL, checkpoint(tmp_path, ORTHOGONAL, packed(ORTHOGONAL, state)))
    features = torch.zeros(1, 1024)
    features[0, 5] = 2.0
    assert head.activations(features)[0].tolist() == [0, 0, 9, 0, 0, 0, 0, 0]
    assert head.contributions(features)[0].tolist() == [0, 0, -4.5, 0, 0, 0, 0, 0]
    assert head.logits(features).tolist() == [-4.25]


def test_concepts_by_hand(tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) for key, value in synthetic_state(CONCEPT).items()}
    concepts, gate, gate_bias, weight, bias = state
    state[concepts][:, 0] = 1.0
    state[gate][1, 1], state[gate_bias][2] = 10.0, 100.0
    state[weight][0, :3], state[bias][0] = torch.tensor([2.0, 2.0, -1.0]), 0.5
    head = load(CONCEPT, checkpoint(tmp_path, CONCEPT, packed(CONCEPT, state)))
    features = torch.zeros(1, 768)
    features[0, 0], features[0, 1] = 3.0, 4.0  # at unit length 0.6, 0.8
    opened = 1 / (1 + np.exp(-8.0))
    assert head.activations(features)[0].tolist() == pytest.approx([0.6] * 168)
    assert head.gates(features)[0, :3].tolist() == pytest.approx([0.5, opened, 1.0])
    assert head.contributions(features)[0, :3].tolist() == pytest.approx([0.6, 1.2 * opened, -0.6])
    assert head.logits(features).tolist() == pytest.approx([0.5 + 1.2 * opened])


def test_concepts_ignore_scale_and_stay_deterministic(tmp_path: Path) -> None:
    head, features = load(CONCEPT, checkpoint(tmp_path, CONCEPT)), features_for(CONCEPT, 6)
    torch.testing.assert_close(head.logits(features), head.logits(1000 * features), atol=1e-4, rtol=0)
    assert torch.equal(head.gates(features), head.gates(features))
    assert head.activations(features).abs().max() <= 1 and head.gates(features).min() >= 0
    assert torch.isfinite(head.logits(torch.zeros(1, 768))).all()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_frozen_but_differentiable_in_the_features(name: str, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name).requires_grad_()
    head.logits(features).sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in vars(head.head).values())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_batches_and_types_of_features(name: str, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name)
    assert head.logits(features[:0]).shape == (0,)
    torch.testing.assert_close(head.logits(features.double()), head.logits(features), atol=0, rtol=0)
    assert head.logits(features.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(head.logits(features[1:2])[0], head.logits(features)[1], atol=2e-5, rtol=1e-5)
    for wrong in (features[0], features[:, 1:], features[None]):
        with pytest.raises(ValueError, match="reads (pooled|projected) features of shape") as caught:
            head.logits(wrong)
        assert_one_sentence(caught.value)


# --- files that are refused ----------------------------------------------------------------------------------------


def test_unknown_name_lists_the_names(tmp_path: Path) -> None:
    for call in (lambda: load("clip-cues/nothing"), lambda: fetch("../../etc/passwd", tmp_path)):
        assert all(name in refusal(call) for name in NAMES)


def test_missing_and_oversized_files(tmp_path: Path) -> None:
    assert "not a file" in refusal(lambda: load(UNIVFD, tmp_path / "absent.pth"))
    assert "not a file" in refusal(lambda: load(UNIVFD, tmp_path))
    large = tmp_path / "large.pth"
    with open(large, "wb") as file:
        file.truncate(published.LARGEST_FILE + 1)
    assert "16 MiB" in refusal(lambda: load(UNIVFD, large))


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04" + bytes(64), b"<html>not a head</html>", bytes(4096)])
def test_not_a_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.ckpt"
    path.write_bytes(content)
    assert "damaged" in refusal(lambda: load(LINEAR, path))


def test_truncated_local_file(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, CONCEPT)
    path.write_bytes(path.read_bytes()[:-1000])
    refusal(lambda: load(CONCEPT, path))


def test_archive_that_would_grow_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(published.LARGEST_FILE + 1))
    assert path.stat().st_size < published.LARGEST_FILE
    assert "unpacks" in refusal(lambda: load(LINEAR, path))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_wrong_layouts(name: str, tmp_path: Path) -> None:
    state = synthetic_state(name)
    first = next(iter(state))
    spoilt = {
        "missing": {key: value for key, value in state.items() if key != first},
        "does not have": state | {"extra": torch.zeros(1)},
        "shape": state | {first: state[first][:, 1:]},
        "not finite": state | {first: state[first].index_fill(1, torch.tensor([3]), float("nan"))},
        "floating-point": state | {first: state[first].to(torch.int32)},
        "is missing": state | {first: state[first].tolist()},
        "table of tensors": list(state.values()),
    }
    for words, content in spoilt.items():
        path = checkpoint(tmp_path, name, packed(name, content))
        message = refusal(lambda path=path: load(name, path))
        assert words in message and name in message


def test_not_finite_after_conversion(tmp_path: Path) -> None:
    state = {key: value.double() for key, value in synthetic_state(LINEAR).items()}
    path = checkpoint(tmp_path, LINEAR, packed(LINEAR, state))
    np.testing.assert_allclose(load(LINEAR, path).bias, list(state.values())[1][0], rtol=1e-6)
    list(state.values())[1][0] = 1e300
    assert "not finite" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, packed(LINEAR, state))))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_another_heads_file_is_refused(name: str, tmp_path: Path) -> None:
    for other in ONE_OF_EACH:
        if other != name:
            path = checkpoint(tmp_path, other)
            refusal(lambda path=path: load(name, path))


def test_wrong_wrapping(tmp_path: Path) -> None:
    state = synthetic_state(LINEAR)
    assert "state_dict" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, state)))
    assert "state_dict" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, [1, 2])))
    mislabelled = {"state_dict": state, "model_type": "concept"}
    assert "model_type" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, mislabelled)))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_pickled_code_never_runs_from_a_local_file(save: Callable, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "hostile.ckpt"
    for content in (Marker(marker), packed(LINEAR, synthetic_state(LINEAR) | {"extra": Marker(marker)})):
        save(content, path)
        assert "none of which was run" in refusal(lambda: load(LINEAR, path))
        assert not marker.exists()
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()  # the pickle does bite where it is loaded carelessly


def test_pickled_code_never_runs_even_when_it_is_pinned(publish: Callable, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    publish(LINEAR, as_bytes(packed(LINEAR, Marker(marker))))
    assert "none of which was run" in refusal(lambda: load(LINEAR))
    assert not marker.exists()


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
    monkeypatch.setattr(download.sys, "platform", "linux")
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


# --- vocabulary of the concept heads ---------------------------------------------------------------------------------


@needs_reference
def test_vocabulary_is_the_pinned_file_and_has_a_row_for_each_direction() -> None:
    file = REFERENCE / "clip-cues" / "antonyms.csv"
    assert download.is_pinned(published.VOCABULARY, file.read_bytes())
    words = published.concept_vocabulary(file)
    assert len(words) == len(load(CONCEPT, REFERENCE / "clip-cues" / "cm_antonyms_combined.ckpt").head.directions) == 168
    assert words[0].name == "saturation" and words[0].positive_prompt.startswith("A photograph")


def test_vocabulary_with_other_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "words.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(PublishedError, match="columns"):
        published.concept_vocabulary(file)


def test_present_names_only_what_is_in_the_cache(publish: Callable) -> None:
    assert published.present(SOURCES[UNIVFD].backbone) == []
    publish(UNIVFD)
    fetch(UNIVFD)
    assert published.present(SOURCES[UNIVFD].backbone) == [UNIVFD]
    assert published.present("embedded") == []
