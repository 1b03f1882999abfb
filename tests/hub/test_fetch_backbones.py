"""Weights from a loopback stand-in for the hub: progress, a cut half-way, resuming, refusals in one sentence.

Like the hub, the stand-in names a file's size and SHA-256 in a redirect, which leads to another host that sends the bytes.
`CUESCOPE_SLOW=1` adds the whole way with randomly initialised weights of the real ViT-L/14-336 (1.7 GB, some minutes).
"""

import io
import json
import os
import resource
import subprocess
import sys
from collections import namedtuple

import numpy as np
import open_clip
import pytest
import torch
from hub_server import serve
from open_clip import pretrained
from paths import ROOT
from PIL import Image
from safetensors.torch import save, save_file

from detector.clip.backbone import Backbone, BackboneError
from detector.hub import backbones as hub
from detector.hub.download import PublishedError

MODEL, TAG, REPOSITORY = "cuescope-tiny", "demo", "someone/tiny"
ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
RECORD = {"hf_hub": f"{REPOSITORY}/", "mean": (0.1, 0.2, 0.3), "std": (0.5,) * 3, "interpolation": "bilinear", "quick_gelu": True}


@pytest.fixture
def tiny_tag(monkeypatch, tmp_path):
    """A tiny architecture that open_clip knows by name, with a tag on the hub, and its random weights."""
    config = tmp_path / f"{MODEL}.json"
    config.write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(config)
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {TAG: RECORD})
    torch.manual_seed(5)
    return open_clip.create_model(MODEL, force_quick_gelu=True)


def test_a_backbone_arrives_with_progress_and_its_own_preprocessing(stand_in, tiny_tag):
    content, seen = serve(stand_in, tiny_tag, REPOSITORY), []
    backbone = Backbone.load(f"{MODEL}/{TAG}", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), len(content)) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = tiny_tag.eval().encode_image(image)
    torch.testing.assert_close(backbone.encode(image).projected, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-L-14-336-quickgelu/openai", "ViT-B-16/datacomp_xl_s13b_b90k", "ViT-B-16-SigLIP/webli"])
def test_a_file_gets_the_preprocessing_of_its_tag(stand_in, tiny_tag, monkeypatch, name):
    record = open_clip.get_pretrained_cfg(*name.split("/")) | {"hf_hub": f"{REPOSITORY}/"}
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {TAG: record})
    serve(stand_in, tiny_tag, REPOSITORY)
    seen = Backbone.load(f"{MODEL}/{TAG}").preprocess
    assert {key: seen[key] for key in ("mean", "std", "interpolation", "resize_mode")}.items() <= record.items()
    assert seen["size"] == (32, 32) and (seen["mean"] == (0.48145466, 0.4578275, 0.40821073)) == ("SigLIP" not in name)


def test_what_is_here_asks_no_network(stand_in, tiny_tag):
    serve(stand_in, tiny_tag, REPOSITORY)
    path = hub.fetch_weights(MODEL, TAG)
    asked = len(stand_in.asked)
    stand_in.stop()
    assert hub.fetch_weights(MODEL, TAG) == path == hub.find_weights(MODEL, TAG) and len(stand_in.asked) == asked


def test_a_cut_download_says_so_and_goes_on_where_it_stopped(stand_in, tiny_tag):
    content = serve(stand_in, tiny_tag, REPOSITORY)
    stand_in.cut = len(content) // 2
    with pytest.raises(BackboneError, match="goes on where it stopped") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and hub.find_weights(MODEL, TAG) is None
    stand_in.cut, seen = None, []
    path = hub.fetch_weights(MODEL, TAG, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert seen[0][0] > len(content) // 2 and seen[-1] == (len(content), len(content))
    assert stand_in.asked[-1][1].startswith("/content/") and stand_in.asked[-1][2] == f"bytes={len(content) // 2}-"


def test_a_hub_out_of_reach_gets_one_sentence(stand_in, tiny_tag):
    stand_in.stop()
    with pytest.raises(BackboneError, match="hub.*embedded") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_hub_switched_off_gets_one_sentence(stand_in, tiny_tag, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set; unset it.*embedded") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and stand_in.asked == []


@pytest.mark.parametrize("status, advice", [(401, "check HF_ENDPOINT"), (403, "check HF_ENDPOINT"), (500, "try again"), (503, "try again")])
def test_a_refusal_names_its_status_and_what_to_do(stand_in, tiny_tag, status, advice):
    stand_in.refusal = status
    with pytest.raises(BackboneError, match=f"HTTP status {status}.*{advice}") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert "\n" not in str(caught.value) and "http://" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_sign_in_page_is_not_taken_for_the_hub(stand_in, tiny_tag):
    stand_in.refusal = 200
    with pytest.raises(PublishedError, match="no hub does.*sign-in"):
        hub.fetch_weights(MODEL, TAG)


def test_a_disk_too_small_is_noticed_before_the_download(stand_in, tiny_tag, monkeypatch):
    serve(stand_in, tiny_tag, REPOSITORY)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda folder: namedtuple("Usage", "total used free")(10, 0, 10))
    with pytest.raises(BackboneError, match="make room.*CUESCOPE_CACHE"):
        Backbone.load(f"{MODEL}/{TAG}")
    assert not any(path.startswith("/content/") for _, path, _ in stand_in.asked)


def test_a_disk_that_takes_no_more_gets_one_sentence(stand_in, tiny_tag):
    content, limits = serve(stand_in, tiny_tag, REPOSITORY), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(PublishedError, match="cannot be kept in .*File too large.*make room") as caught:
            hub.fetch_weights(MODEL, TAG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert hub.fetch_weights(MODEL, TAG).read_bytes() == content


def test_a_file_that_is_not_the_one_promised_is_deleted(stand_in, tiny_tag, tmp_path):
    serve(stand_in, tiny_tag, REPOSITORY, checksum="0" * 64)
    with pytest.raises(PublishedError, match="checksum.*embedded"):
        hub.fetch_weights(MODEL, TAG)
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.suffix in (".safetensors", ".partial")] == []


def test_a_repository_without_safetensors_gives_its_torch_file(stand_in, tiny_tag):
    buffer = io.BytesIO()
    torch.save(tiny_tag.state_dict(), buffer)
    stand_in.put(f"/{REPOSITORY}/resolve/main/{hub.PICKLED_NAME}", buffer.getvalue())
    assert Backbone.load(f"{MODEL}/{TAG}").size == 32


@pytest.mark.parametrize("wrong", [{"visual.proj": torch.zeros(32, 16)}, {"visual.proj": torch.zeros(3, 3)}, {"more": torch.zeros(1)}])
def test_weights_of_another_model_get_one_sentence(stand_in, tiny_tag, wrong):
    """Some are missing, one has another shape, one is too many: nothing is left at its random initial value."""
    state = {} if len(wrong.get("visual.proj", ())) == 32 else tiny_tag.state_dict()
    stand_in.put(f"/{REPOSITORY}/resolve/main/{hub.SAFE_NAME}", save(state | wrong))
    with pytest.raises(BackboneError, match=f"{hub.SAFE_NAME} is damaged or belongs to another model; delete it"):
        Backbone.load(f"{MODEL}/{TAG}")


def test_a_file_cut_after_its_download_is_named(stand_in, tiny_tag):
    serve(stand_in, tiny_tag, REPOSITORY)
    path = hub.fetch_weights(MODEL, TAG)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BackboneError, match="is damaged.*delete it") as caught:
        Backbone.load(f"{MODEL}/{TAG}")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pickle_that_would_run_something_is_refused(stand_in, tiny_tag, tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    buffer = io.BytesIO()
    torch.save({"state_dict": Harmful()}, buffer)
    stand_in.put(f"/{REPOSITORY}/resolve/main/{hub.PICKLED_NAME}", buffer.getvalue())
    with pytest.raises(BackboneError, match="could not be loaded"):
        Backbone.load(f"{MODEL}/{TAG}")
    assert not (tmp_path / "harm").exists()


def test_too_little_memory_is_not_called_a_damaged_file(stand_in, tiny_tag, monkeypatch):
    serve(stand_in, tiny_tag, REPOSITORY)
    monkeypatch.setattr(open_clip, "create_model", lambda *given, **named: torch.empty(2**60))
    with pytest.raises(BackboneError, match="not enough memory"):
        Backbone.load(f"{MODEL}/{TAG}")


def test_a_file_that_another_program_keeps_is_used(stand_in, tiny_tag, tmp_path):
    commit, folder = "1" * 40, tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    path = folder / "snapshots" / commit / hub.PICKLED_NAME
    for file, content in ((folder / "refs" / "main", commit.encode()), (path, b"weights")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert hub.fetch_weights(MODEL, TAG) == path and stand_in.asked == []


COMMANDS = f"""
import os, sys
import open_clip
from open_clip import pretrained
from detector.cli.main import main
config, image, nowhere = sys.argv[1:]
open_clip.add_model_config(config)
pretrained._PRETRAINED[{MODEL!r}] = {{{TAG!r}: {RECORD!r}}}
print(main(["score", image, "--backbone", "{MODEL}/{TAG}"]))
os.environ["HF_ENDPOINT"] = nowhere
print(main(["score", image, "--backbone", "{MODEL}/{TAG}"]))
print(main(["score", image, "--backbone", "ViT-B-32-quickgelu/openai"]))
"""


@pytest.mark.slow
def test_the_command_line_downloads_then_works_without_network_and_refuses_in_one_line(stand_in, tiny_tag, tmp_path):
    """In a process of its own, whose caches lie in `tmp_path`: first with the hub, then with an address where nobody answers."""
    serve(stand_in, tiny_tag, REPOSITORY)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "image.png")
    variables = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    variables |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    arguments = [str(tmp_path / f"{MODEL}.json"), str(tmp_path / "image.png"), "http://127.0.0.1:1"]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", COMMANDS, *arguments], env=variables, text=True, capture_output=True)
    assert not done.returncode, done.stderr
    first, first_code, again, again_code, code = done.stdout.splitlines()
    assert (first_code, again_code, code) == ("0", "0", "1")
    assert json.loads(first)["backbone"] == json.loads(again)["backbone"] == f"{MODEL}/{TAG}"
    assert [method for method, _, _ in stand_in.asked] == ["HEAD", "GET", "GET"]  # the redirect, its target, and nothing later
    (sentence,) = done.stderr.splitlines()
    assert "Connection refused" in sentence and sentence.endswith("or use the backbone 'embedded'.")


def test_a_repository_without_weights_gets_one_sentence(stand_in, tiny_tag):
    with pytest.raises(BackboneError, match="no weights file"):
        Backbone.load(f"{MODEL}/{TAG}")


def test_the_papers_backbones_have_a_place_on_the_hub():
    for name in ("ViT-L-14-336-quickgelu", "ViT-L-14-quickgelu"):
        repository, names = hub.hub_files(name, "openai")
        assert repository.count("/") == 1 and names[0].endswith(".safetensors")
    repository, (file, *_) = hub.hub_files("ViT-L-14-336-quickgelu", "openai")
    assert f"preload_from_hub:\n  - {repository} {file}\n" in (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not os.environ.get("CUESCOPE_SLOW"), reason="slow: set CUESCOPE_SLOW=1")
def test_the_real_architecture_all_the_way(stand_in, tmp_path):
    model_name, tag = "ViT-L-14-336-quickgelu", "openai"
    model = open_clip.create_model(model_name)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "weights.safetensors")
    repository, names = hub.hub_files(model_name, tag)
    stand_in.put(f"/{repository}/resolve/main/{names[0]}", (tmp_path / "weights.safetensors").read_bytes())
    (tmp_path / "weights.safetensors").unlink()
    stand_in.cut = 700_000_000
    with pytest.raises(BackboneError, match="goes on where it stopped"):
        Backbone.load(f"{model_name}/{tag}")
    stand_in.cut = None
    backbone = Backbone.load(f"{model_name}/{tag}")
    assert stand_in.asked[-1][2] == "bytes=700000000-"
    expected = {
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
        "interpolation": "bicubic",
        "size": (336, 336),
    }
    assert expected.items() <= backbone.preprocess.items()
    image = backbone.prepare(np.zeros((400, 500, 3), np.uint8))[None]
    features = backbone.encode(image)
    assert features.pooled.shape == (1, 1024) and features.projected.shape == (1, 768) and features.patches.shape == (1, 576, 1024)
    with torch.inference_mode():
        torch.testing.assert_close(features.projected, model.eval().encode_image(image), rtol=0.05, atol=0.05)
