"""Pre-training on a toy set: losses by hand, both stages, resumption, export that open_clip loads."""

import csv
import io
import json
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import CONFIG

from detector.checkpoints import Checkpoint
from detector.clip.backbone import Backbone
from detector.clip.pretrain.data import PretrainConfig, batches, decoder_pairs, draw_weights, load_pairs
from detector.clip.pretrain.decoder import caption_batches, image_tokens
from detector.clip.pretrain.loop import PretrainRun, keep_text, pretrain, refine_decoder
from detector.clip.pretrain.losses import attribute_loss, caption_targets, contrastive_loss, normalise_pixels
from detector.clip.pretrain.measures import centre_square, recall_at
from detector.clip.pretrain.model import CaptionModel
from detector.clip.pretrain.muon import Float32Muon, matrix_optimiser, orthogonalise
from detector.clip.pretrain.towers import dropout_at
from detector.clip.tokenizer import simple_tokenizer

SMALL = PretrainConfig(epochs=2, batch=8, edited=4, edits_per_batch=2, caption_epochs=1, caption_batch=8, early_epochs=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    rows = []
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        with tarfile.open(folder / f"{split}.tar", "w") as archive:
            for index in range(count):
                name = f"{split}{index}.webp"
                data = cv2.imencode(".webp", generator.integers(0, 256, (40, 48, 3)).astype(np.uint8))[1].tobytes()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
                source = "flickr8k" if index % 2 else "imagenette"
                rows += [(name, split, source, f"a {word} number {index % 4}") for word in ("dog", "cat")[: 1 + index % 2]]
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "split", "source", "caption"), *rows])
    return folder


def test_contrastive_loss_by_hand():
    eye = torch.eye(2)
    # perfect pairs at scale s: loss = log(1 + e^−s) both ways
    expected = np.log1p(np.exp(-3.0))
    assert contrastive_loss(eye, eye, torch.tensor([0, 1]), torch.tensor(3.0)).item() == pytest.approx(expected, rel=1e-5)
    # one text for both images: nothing to tell apart among texts, and each image is half of its target
    shared = contrastive_loss(eye, eye[:1], torch.tensor([0, 0]), torch.tensor(0.0))
    assert shared.item() == pytest.approx(0.5 * np.log(2), rel=1e-5)


def test_attribute_loss_rewards_the_right_direction():
    clean, direction = F.normalize(torch.ones(1, 4), dim=1), torch.tensor([[1.0, 0, 0, 0]])
    up = F.normalize(clean + direction, dim=1)
    right, wrong = (attribute_loss(clean, up, direction, torch.tensor([pole])) for pole in (1.0, -1.0))
    assert right < np.log(2) < wrong


def test_orthogonalised_updates_have_equal_singular_values():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(16, 40, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_reduces_a_loss():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(12, 12))
    optimiser, inputs, target = Float32Muon([weight], lr=0.05), torch.randn(64, 12), torch.randn(64, 12)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.mse_loss(inputs @ weight, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("fast", [False, True])
def test_query_key_and_value_are_updated_apart(fast, monkeypatch):
    """By torch's Muon, where it is, as by ours; as three matrices would be."""
    if fast and not hasattr(torch.optim, "Muon"):
        pytest.skip("torch before 2.9 has no Muon")
    monkeypatch.setattr("detector.clip.pretrain.muon.has_bfloat16", lambda device: fast)
    generator = torch.Generator().manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(24, 8, generator=generator))
    apart = [torch.nn.Parameter(part.clone()) for part in whole.detach().split(8)]
    optimiser, reference = matrix_optimiser([whole], 0.1, 0.2), Float32Muon(apart, 0.1, 0.2)
    assert isinstance(optimiser, Float32Muon) != fast
    for _ in range(3):
        whole.grad = torch.randn(24, 8, generator=generator)
        for part, gradient in zip(apart, whole.grad.split(8), strict=True):
            part.grad = gradient.clone()
        optimiser.step()
        reference.step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in apart]), atol=0.02 if fast else 0, rtol=0)
    whole.grad = None
    before = whole.detach().clone()
    optimiser.step()
    assert torch.equal(whole, before)  # without a gradient nothing moves


def test_recall_by_hand():
    text = torch.eye(3)
    assert recall_at(torch.eye(3)[:2], text, torch.tensor([0, 1, 1]), k=1) == 1
    assert recall_at(torch.eye(3)[[2, 1]], text, torch.tensor([0, 1, 1]), k=1) == 0.5


def test_caption_targets_end_with_the_end():
    tokenizer = simple_tokenizer(600, 16)
    tokens, labels = caption_targets(tokenizer, ["a dog", "a much longer dog"])
    assert tokens.shape[1] == labels.shape[1] + 1
    for row in labels:
        real = row[row != -100]
        assert real[-1] == tokenizer.eot_token_id and (real[:-1] != tokenizer.eot_token_id).all()


def test_batches_repeat_for_an_epoch_and_edited_copies_say_so(pairs):
    train = load_pairs(pairs, "train")
    first, again = next(batches(train, 32, SMALL, 0)), next(batches(train, 32, SMALL, 0))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.images.shape == (12, 32, 32, 3) and len(first.texts) == 12 and len(first.edits) == 4
    assert all(", with " in text for text in first.texts[8:]) and not any(", with " in text for text in first.texts[:8])


def test_patches_come_back_at_the_end():
    config = PretrainConfig()
    rates = [dropout_at(epoch, config) for epoch in range(config.epochs)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0


def stop_after_checkpoint(patch):
    """The next training is killed right after the checkpoint of its first epoch."""

    def save(self, contents, written=Checkpoint.save):
        written(self, contents)
        raise KeyboardInterrupt

    patch.setattr(Checkpoint, "save", save)


def run(pairs, out, checkpoints, config, resume=False):
    return pretrain(PretrainRun(pairs, out, checkpoints, resume), CONFIG, config)


def test_pretraining_exports_a_model_and_resumes(pairs, tmp_path, capsys):
    metrics = run(pairs, tmp_path / "out", tmp_path / "state", SMALL)
    assert 0 <= metrics["flickr8k_r10"] <= 1 and len(metrics["attribute_rise"]) == 38
    backbone = Backbone.load(str(tmp_path / "out"))
    assert backbone.encode_text(["a dog"]).shape == (1, 24)
    capsys.readouterr()
    # everything is done: resuming trains nothing and gives the same model
    again = run(pairs, tmp_path / "again", tmp_path / "state", SMALL, resume=True)
    assert "towers 1/" not in capsys.readouterr().err and again["flickr8k_r10"] == metrics["flickr8k_r10"]
    assert Backbone.load(str(tmp_path / "again")).fingerprint == backbone.fingerprint
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["config"]["epochs"] == 2


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "open_clip_model.safetensors")


@pytest.fixture
def cut(tmp_path, monkeypatch, capsys):
    """A function of `train(out, checkpoints, resume)`: trained at once, and cut after its first epoch and resumed. Returns stderr of the
    resumption; the weights must be equal."""

    def compare(train) -> str:
        train(tmp_path / "whole", tmp_path / "a", False)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            stop_after_checkpoint(patched)
            train(tmp_path / "cut", tmp_path / "b", False)
        capsys.readouterr()
        train(tmp_path / "cut", tmp_path / "b", True)
        metrics = [set(json.loads((tmp_path / name / "metrics.json").read_text())) for name in ("whole", "cut")]
        first, second = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
        assert metrics[0] == metrics[1] and set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)
        return capsys.readouterr().err

    return compare


def test_a_cut_run_goes_on_from_its_last_epoch(pairs, cut):
    config = replace(SMALL, full_epochs=0)  # patches are dropped in the last epoch, too: the random state is in the checkpoint
    lines = cut(lambda out, checkpoints, resume: run(pairs, out, checkpoints, config, resume))
    assert "towers 1/2" not in lines and "towers 2/2" in lines


# --- the decoder alone ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    run(pairs, folder / "out", folder / "state", SMALL)
    return folder / "out"


def test_draws_go_by_source():
    weights = draw_weights(["flickr8k", "flickr8k", "houses", "houses", "houses", "weather"], 0.9)
    np.testing.assert_allclose(weights, [0.45, 0.45, 0.025, 0.025, 0.025, 0.025])
    np.testing.assert_allclose(draw_weights(["houses", "houses"], 0.9), [0.5, 0.5])


def test_the_decoder_sees_all_sentences_and_few_class_names(pairs):
    train = load_pairs(pairs, "train")
    chosen = decoder_pairs(train, 3)
    assert chosen.sources.count("flickr8k") == 12 and chosen.sources.count("imagenette") == 3
    assert len(chosen.images) == len(chosen.captions) == 15 and all(
        len(c) == 2 for c, s in zip(chosen.captions, chosen.sources, strict=True) if s == "flickr8k"
    )


def test_image_tokens_are_the_towers_own_plain_and_mirrored(pairs, tmp_path):
    train, preprocess = load_pairs(pairs, "train"), CONFIG["preprocess_cfg"]
    subject = CaptionModel.build(CONFIG)
    model = subject.model.eval()
    tokens = image_tokens(subject, train, tmp_path)
    assert tokens.shape == (24, 2, 16, 32) and tokens.dtype == np.float16
    square = centre_square(train.images[5], 32)
    for side, image in enumerate((square, square[:, ::-1])):
        with torch.no_grad():
            expected = model._encode_image(normalise_pixels(np.ascontiguousarray(image)[None], preprocess))[1][0]
        np.testing.assert_allclose(tokens[5, side], expected, rtol=2e-3, atol=2e-3)
    model.visual.forward = None  # asked again, the kept ones are read
    np.testing.assert_array_equal(image_tokens(subject, train, tmp_path), tokens)


def test_caption_batches_repeat_for_an_epoch_and_leave_tokens_out(pairs):
    train = load_pairs(pairs, "train")
    tokens = np.random.default_rng(0).normal(size=(24, 2, 16, 4)).astype(np.float16)
    (first, texts), (again, same) = (next(caption_batches(train, tokens, SMALL, 0)) for _ in range(2))
    assert torch.equal(first, again) and texts == same and first.shape == (8, 12, 4)
    other, _ = next(caption_batches(train, tokens, SMALL, 1))
    assert not torch.equal(first, other)


def test_refining_trains_the_decoder_and_nothing_else(pairs, exported, tmp_path, capsys):
    config = PretrainConfig(caption_epochs=2, caption_batch=8)
    metrics = refine_decoder(PretrainRun(pairs, tmp_path / "out", tmp_path / "state"), exported, config)
    before, after = weights_of(exported), weights_of(tmp_path / "out")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("text_decoder.") for name in changed)
    # another captioner makes another backbone: what ITEM reads is no longer the same
    assert Backbone.load(str(tmp_path / "out")).fingerprint != Backbone.load(str(exported)).fingerprint
    losses = [float(line.split("nats_val ")[1].split(",")[0]) for line in capsys.readouterr().err.splitlines() if "nats_val" in line]
    assert metrics["caption_nats_per_token_val"] == pytest.approx(min(losses), abs=6e-4)
    assert metrics["decoder_before"]["caption_nats_per_token_val"] > 0 and metrics["flickr8k_r10"] >= 0


def test_refining_goes_on_from_its_last_epoch(pairs, exported, tmp_path, cut):
    config = PretrainConfig(caption_epochs=2, caption_batch=8)
    lines = cut(lambda *places: refine_decoder(PretrainRun(pairs, *places), exported, config))
    assert "decoder 1/2" not in lines and "decoder 2/2" in lines
    saved = torch.load(tmp_path / "b" / "decoder.pt", weights_only=True)
    assert not any(name.startswith(("visual", "text.")) for name in (*saved["module"], *saved["state"]["weights"]))


# --- the image tower alone -----------------------------------------------------------------------------------------

FURTHER = replace(SMALL, early_epochs=0, full_epochs=0, average=0.5)


def test_the_image_tower_goes_on_and_the_text_tower_stays(pairs, exported, tmp_path):
    metrics = keep_text(PretrainRun(pairs, tmp_path / "out", tmp_path / "state"), exported, FURTHER)
    before, after = weights_of(exported), weights_of(tmp_path / "out")
    assert set(before) == set(after)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"visual", "text_decoder"}
    backbones = [Backbone.load(str(folder)) for folder in (exported, tmp_path / "out")]
    torch.testing.assert_close(*(backbone.encode_text(["a dog"]) for backbone in backbones), rtol=0, atol=0)
    assert metrics["before"]["images"] == metrics["images"] and metrics["config"]["average"] == 0.5


def test_the_image_tower_s_running_mean_survives_a_cut(pairs, exported, tmp_path, cut):
    lines = cut(lambda *places: keep_text(PretrainRun(pairs, *places), exported, FURTHER))
    assert "image tower 1/2" not in lines and "image tower 2/2" in lines
    keep_text(PretrainRun(pairs, tmp_path / "last", tmp_path / "c"), exported, replace(FURTHER, average=None))
    mean, last = weights_of(tmp_path / "whole"), weights_of(tmp_path / "last")
    assert any(not torch.equal(mean[name], last[name]) for name in mean)
