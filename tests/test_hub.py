"""Weights from a loopback stand-in for the hub: progress, a cut half-way, resuming, refusals in one sentence.

`CUESCOPE_SLOW=1` adds the whole way with randomly initialised weights of the real ViT-L/14-336 (1.7 GB, some minutes).
"""

import hashlib
import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import open_clip
import pytest
import torch
from open_clip import pretrained
from safetensors.torch import save, save_file

from detector import hub
from detector.backbone import Backbone, BackboneError
from detector.download import PublishedError

MODEL, TAG, REPOSITORY = "cuescope-tiny", "demo", "someone/tiny"
ARCHITECTURE = {
    "embed_dim": 16, "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
MEAN = (0.1, 0.2, 0.3)


class Hub:
    """What the stand-in serves, how much of a file it sends before it hangs up, and what it was asked."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.checksums: dict[str, str] = {}
        self.cut: int | None = None
        self.asked: list[tuple[str, str, str | None]] = []

    def put(self, path: str, content: bytes, checksum: str | None = None) -> None:
        self.files[path] = content
        self.checksums[path] = checksum or hashlib.sha256(content).hexdigest()


def handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def _head(self) -> bytes | None:
            hub.asked.append((self.command, self.path, self.headers.get("Range")))
            content = hub.files.get(self.path)
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{hub.checksums[self.path]}"')
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            return content[start:]

        def do_HEAD(self):
            self._head()

        def do_GET(self):
            body = self._head()
            if body is not None:
                self.wfile.write(body[: hub.cut])

    return Handler


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A running stand-in with nothing on it; every cache is empty."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.stop = lambda: (server.shutdown(), server.server_close())
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "*")
    yield state
    state.stop()


@pytest.fixture
def tiny_tag(monkeypatch, tmp_path):
    """A tiny architecture that open_clip knows by name, with a tag on the hub, and its random weights."""
    import json

    config = tmp_path / f"{MODEL}.json"
    config.write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(config)
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {TAG: {"hf_hub": f"{REPOSITORY}/", "mean": MEAN, "std": (0.5,) * 3,
                                                              "interpolation": "bilinear", "quick_gelu": True}})
    torch.manual_seed(5)
    return open_clip.create_model(MODEL)


def serve(stand_in: Hub, model, name: str = hub.SAFE_NAME, **options) -> bytes:
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    stand_in.put(f"/{REPOSITORY}/resolve/main/{name}", content, **options)
    return content


def test_a_backbone_arrives_with_progress_and_its_own_preprocessing(stand_in, tiny_tag):
    content, seen = serve(stand_in, tiny_tag), []
    backbone = Backbone.load(f"{MODEL}/{TAG}", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), len(content)) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert tuple(backbone.preprocess["mean"]) == MEAN and backbone.preprocess["interpolation"] == "bilinear"
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = tiny_tag.eval().encode_image(image)
    torch.testing.assert_close(backbone.encode(image).projected, expected, rtol=0, atol=1e-5)


def test_what_is_here_asks_no_network(stand_in, tiny_tag):
    serve(stand_in, tiny_tag)
    path = hub.fetch_weights(MODEL, TAG)
    asked = len(stand_in.asked)
    stand_in.stop()
    assert hub.fetch_weights(MODEL, TAG) == path == hub.find_weights(MODEL, TAG) and len(stand_in.asked) == asked


def test_a_cut_download_says_so_and_goes_on_where_it_stopped(stand_in, tiny_tag):
    content = serve(stand_in, tiny_tag)
    stand_in.cut = len(content) // 2
    with pytest.raises(BackboneError, match="goes on where it stopped") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and hub.find_weights(MODEL, TAG) is None
    stand_in.cut = None
    path = hub.fetch_weights(MODEL, TAG)
    assert path.read_bytes() == content
    assert stand_in.asked[-1] == ("GET", f"/{REPOSITORY}/resolve/main/{hub.SAFE_NAME}", f"bytes={len(content) // 2}-")


def test_a_hub_out_of_reach_gets_one_sentence(stand_in, tiny_tag):
    stand_in.stop()
    with pytest.raises(BackboneError, match="hub.*embedded") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_hub_switched_off_gets_one_sentence(stand_in, tiny_tag, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="offline mode is enabled.*embedded") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and stand_in.asked == []


def test_a_file_that_is_not_the_one_promised_is_deleted(stand_in, tiny_tag, tmp_path):
    serve(stand_in, tiny_tag, checksum="0" * 64)
    with pytest.raises(PublishedError, match="checksum"):
        hub.fetch_weights(MODEL, TAG)
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.suffix in (".safetensors", ".partial")] == []


def test_a_repository_without_safetensors_gives_its_torch_file(stand_in, tiny_tag):
    buffer = io.BytesIO()
    torch.save(tiny_tag.state_dict(), buffer)
    stand_in.put(f"/{REPOSITORY}/resolve/main/{hub.PICKLED_NAME}", buffer.getvalue())
    assert Backbone.load(f"{MODEL}/{TAG}").size == 32


def test_weights_of_another_model_get_one_sentence(stand_in, tiny_tag):
    stand_in.put(f"/{REPOSITORY}/resolve/main/{hub.SAFE_NAME}", save({"visual.proj": torch.zeros(3, 3)}))
    with pytest.raises(BackboneError, match="damaged or belongs to another model"):
        Backbone.load(f"{MODEL}/{TAG}")


def test_a_repository_without_weights_gets_one_sentence(stand_in, tiny_tag):
    with pytest.raises(BackboneError, match="no weights file"):
        Backbone.load(f"{MODEL}/{TAG}")


def test_the_papers_backbones_have_a_place_on_the_hub():
    for name in ("ViT-L-14-336-quickgelu", "ViT-L-14-quickgelu"):
        repository, names = hub.weights_place(name, "openai")
        assert repository.count("/") == 1 and names[0].endswith(".safetensors")


@pytest.mark.skipif(not os.environ.get("CUESCOPE_SLOW"), reason="slow: set CUESCOPE_SLOW=1")
def test_the_real_architecture_all_the_way(stand_in, tmp_path):
    model_name, tag = "ViT-L-14-336-quickgelu", "openai"
    model = open_clip.create_model(model_name)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "weights.safetensors")
    repository, names = hub.weights_place(model_name, tag)
    stand_in.put(f"/{repository}/resolve/main/{names[0]}", (tmp_path / "weights.safetensors").read_bytes())
    (tmp_path / "weights.safetensors").unlink()
    stand_in.cut = 700_000_000
    with pytest.raises(BackboneError, match="goes on where it stopped"):
        Backbone.load(f"{model_name}/{tag}")
    stand_in.cut = None
    backbone = Backbone.load(f"{model_name}/{tag}")
    assert stand_in.asked[-1][2] == "bytes=700000000-"
    image = backbone.prepare(np.zeros((400, 500, 3), np.uint8))[None]
    features = backbone.encode(image)
    assert features.pooled.shape == (1, 1024) and features.projected.shape == (1, 768) and features.patches.shape == (1, 576, 1024)
    with torch.inference_mode():
        torch.testing.assert_close(features.projected, model.eval().encode_image(image), rtol=0.05, atol=0.05)
