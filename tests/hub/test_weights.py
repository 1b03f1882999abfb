"""Weights files that say who they are: every flipped bit, every other backbone and every impossible number is refused in a sentence."""

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector import Suite
from detector.assets import MODELS
from detector.clip.backbone import WEIGHTS_FILE, Backbone, BackboneError
from detector.hub.weights import WeightsError, check_finite, check_shapes, fingerprint, read_weights, tensor_digest, write_weights
from detector.methods.base import HeadError, load_head, save_head
from detector.methods.registry import METHODS, find_heads, read_head

SHIPPED = sorted(MODELS.rglob("*.safetensors"))
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3), "half": torch.ones(4, dtype=torch.float16)}


def flipped(data: bytes, place: int) -> bytes:
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]


def test_a_file_comes_back_as_it_was_written(tmp_path):
    write_weights(tmp_path / "new" / "a.safetensors", TENSORS, {"note": "ä"})
    tensors, header = read_weights(tmp_path / "new" / "a.safetensors")
    assert header["note"] == "ä" and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in TENSORS.items())


def test_every_flipped_bit_of_a_small_file_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    write_weights(path, TENSORS, {"note": "x"})
    data = path.read_bytes()
    for place in range(8 * len(data)):
        path.write_bytes(flipped(data, place))
        with pytest.raises(WeightsError) as refusal:
            read_weights(path)
        assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_flipped_bits_of_the_shipped_files_are_noticed(file, tmp_path):
    read_weights(file)
    data, draw, path = file.read_bytes(), random.Random(0), tmp_path / file.name
    for _ in range(2 if len(data) > 2**20 else 12):
        path.write_bytes(flipped(data, draw.randrange(8 * len(data))))
        with pytest.raises(WeightsError, match="damaged|cannot be read|lacks its checksums"):
            read_weights(path)


def test_files_of_other_programs_are_read_where_no_checksum_is_asked_for(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    assert torch.equal(read_weights(tmp_path / "other.safetensors", with_checksums=False)[0]["weight"], torch.ones(2))
    with pytest.raises(WeightsError, match="lacks its checksums"):
        read_weights(tmp_path / "other.safetensors")


def test_the_digest_depends_on_names_types_shapes_and_values():
    variants = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0, 0, 0, 1.0])},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
    ]
    assert len({tensor_digest(tensors) for tensors in variants}) == len(variants)
    assert tensor_digest({"a": np.zeros(4, np.float32)}) == tensor_digest(variants[0])
    assert fingerprint(variants[0], {"mean": (1, 2)}) == fingerprint(variants[0], {"mean": [1, 2]}) != fingerprint(variants[0], {})


def test_shapes_by_hand():
    shapes = {"weight": ("units", 3), "bias": ("units",), "offset": ()}
    good = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "offset": torch.zeros(())}
    check_shapes("The head", good, shapes)
    for wrong in ({"weight": torch.zeros(2, 4)}, {"bias": torch.zeros(3)}, {"offset": torch.zeros(1)}, {"more": torch.zeros(1)}):
        with pytest.raises(WeightsError, match="The head"):
            check_shapes("The head", good | wrong, shapes)


def test_numbers_that_are_not_finite_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(WeightsError, match="not finite .in 'b'"):
            check_finite("The head", {"a": torch.ones(2), "b": torch.tensor([1.0, value])})
    check_finite("The head", {"b": torch.tensor([float("nan")]), "c": torch.tensor(1)}, ("b",))


# --- the backbone's fingerprint ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "a")


@pytest.mark.parametrize("part", ["visual.transformer.resblocks.1", "visual.ln_post", "text.transformer", "text_decoder", "logit_scale"])
def test_the_fingerprint_follows_every_part(tiny, part):
    from detector.clip.backbone import create_model
    from detector.clip.backbone import fingerprint as of_model

    model = create_model(str(tiny))
    before = of_model(model)
    parameter = next(p for name, p in model.named_parameters() if name.startswith(part))
    with torch.no_grad():
        parameter.view(-1)[0] += 1e-3
    assert of_model(model) != before


@pytest.mark.parametrize(
    "entry, value", [("mean", (0.5, 0.4, 0.31)), ("std", (0.2, 0.25, 0.31)), ("interpolation", "bilinear"), ("resize_mode", "squash")]
)
def test_the_fingerprint_follows_the_preprocessing(tiny, entry, value):
    from detector.clip.backbone import create_model
    from detector.clip.backbone import fingerprint as of_model

    model = create_model(str(tiny))
    before = of_model(model)
    model.visual.preprocess_cfg = dict(model.visual.preprocess_cfg) | {entry: value}
    assert of_model(model) != before


def test_the_fingerprint_follows_activation_and_attention_heads(tiny):
    from open_clip.transformer import QuickGELU

    from detector.clip.backbone import create_model
    from detector.clip.backbone import fingerprint as of_model

    model = create_model(str(tiny))
    before = of_model(model)
    model.visual.transformer.resblocks[0].mlp.gelu = QuickGELU()
    quick = of_model(model)
    model.visual.transformer.resblocks[0].attn.num_heads *= 2
    assert len({before, quick, of_model(model)}) == 3


def test_a_backbone_that_holds_nan_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "nan")
    tensors, header = read_weights(folder / WEIGHTS_FILE, with_checksums=False)
    tensors["visual.proj"][0, 0] = float("nan")
    write_weights(folder / WEIGHTS_FILE, tensors, header)
    with pytest.raises(BackboneError, match="not finite"):
        Backbone.load(str(folder))


# --- heads -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The embedded backbone and its heads in a folder of their own, where files may be damaged."""
    folder = tmp_path_factory.mktemp("copy") / "embedded"
    shutil.copytree(MODELS / "embedded", folder)
    return folder


@pytest.fixture
def restored(copy):
    """The copied folder of heads, complete again after the test."""
    yield copy / "heads"
    for file in (MODELS / "embedded" / "heads").glob("*.safetensors"):
        shutil.copy(file, copy / "heads" / file.name)


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("physical", "residual")])
def test_a_fused_method_without_its_head_is_named_everywhere(restored, method, picture, capsys):
    from detector.cli.main import main
    from interpret.render.text import method_name, verdict_card

    (restored / f"{method}.safetensors").unlink()
    suite = Suite.load(str(restored.parent))
    record = suite.analyze(picture).to_dict()
    assert suite.absent == (method,) and record["absent"] == [method] and method not in record["verdict"]["contributions"]
    assert f"does without: {method_name(method).lower()}." in verdict_card(record)
    if method == "sdd":  # one start of the command line is enough
        assert main(["score", picture, "--backbone", str(restored.parent)]) == 0
        assert "The sdd head is absent" in capsys.readouterr().err


def test_absent_reference_images_are_named(restored, picture, capsys):
    from detector.cli.main import main
    from interpret.render.text import verdict_card

    (restored / "reference.safetensors").unlink()
    record = Suite.load(str(restored.parent)).analyze(picture).to_dict()
    words = verdict_card(record)
    assert record["absent"] == ["reference"] and "compared with nothing" in words and "does without" not in words
    assert main(["score", picture, "--backbone", str(restored.parent)]) == 0
    assert "The reference images are absent" in capsys.readouterr().err


def test_nothing_is_absent_as_shipped(suite, picture):
    assert suite.absent == () and "absent" not in suite.analyze(picture).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        "nan",
        "shape",
        "tensor missing",
        "tensor too many",
        "other fingerprint",
        "other method",
        "other reads",
        "other preprocessing",
        "other threshold",
        "other labels",
    ],
)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_head_that_does_not_fit_is_refused_in_one_sentence(tmp_path, suite, method, change):
    tensors, card = load_head(find_heads("embedded")[method])
    name = max(sorted(tensors), key=lambda n: (tensors[n].is_floating_point(), tensors[n].dim()))
    entries = {
        "other fingerprint": {"fingerprint": "0" * 16},
        "other method": {"method": "else"},
        "other reads": {"reads": "else"},
        "other preprocessing": {"preprocessing": "else"},
        "other threshold": {"threshold": 0.5},
        "other labels": {"labels": "else"},
    }
    if change == "nan":
        tensors[name] = torch.full_like(tensors[name], torch.nan)
    elif change == "shape":
        tensors[name] = tensors[name][..., :-1].contiguous()
    elif change == "tensor missing":
        del tensors[name]
    elif change == "tensor too many":
        tensors["more"] = torch.ones(1)
    save_head(tmp_path / "head.safetensors", tensors, replace(card, **entries.get(change, {})))
    with pytest.raises(HeadError) as refusal:
        read_head(tmp_path / "head.safetensors", method, suite.backbone)
    assert str(refusal.value).endswith((".", "`.")) and "\n" not in str(refusal.value)


def test_a_verdict_refuses_a_head_that_it_was_not_fitted_with(restored):
    tensors, card = load_head(restored / "orthogonal.safetensors")
    save_head(restored / "orthogonal.safetensors", tensors | {"bias": tensors["bias"] + 1}, card)
    with pytest.raises(HeadError, match="fitted with another orthogonal head"):
        Suite.load(str(restored.parent))


@pytest.mark.parametrize("name", ["band", "views", "labels", "platt"])
def test_a_verdict_that_contradicts_itself_is_refused(restored, name):
    tensors, card = load_head(restored / "verdict.safetensors")
    tensors[name] = {
        "band": tensors["band"].flip(0),
        "views": torch.tensor(7),
        "labels": tensors["labels"] + 1,
        "platt": tensors["platt"][:-1],
    }[name]
    save_head(restored / "verdict.safetensors", tensors, card)
    with pytest.raises(HeadError):
        Suite.load(str(restored.parent))


# --- on the page ---------------------------------------------------------------------------------------------------


def test_the_page_says_in_a_sentence_what_is_wrong_with_a_head(picture, monkeypatch, capsys):
    from interpret.panels import service

    def damaged(name="embedded", *rest):
        raise HeadError("The weights file sdd.safetensors is damaged.")

    monkeypatch.setattr(service, "get_suite", damaged)
    record, _ = service.analyze(picture)
    assert record["error"] == "The weights file sdd.safetensors is damaged."
    service.load_first()
    assert capsys.readouterr().err == "The weights file sdd.safetensors is damaged.\n"


def test_examples_do_without_a_damaged_autoencoder(tmp_path, monkeypatch, capsys):
    from detector.clip import autoencoder
    from interpret.examples import EXAMPLES, make_examples

    monkeypatch.setattr(autoencoder, "read_weights", lambda path: read_weights(tmp_path / "missing.safetensors"))
    labels = [label for path, label in make_examples(tmp_path / "examples") if path.parent == tmp_path / "examples"]
    assert labels == [label for label, _ in EXAMPLES.values() if not label.startswith("Synthetic")]
    assert "missing.safetensors cannot be read" in capsys.readouterr().err
