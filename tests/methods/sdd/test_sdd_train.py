"""Training of SDD: the bag's levels, the losses by hand, balanced windows, and resuming after a crash."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_tiny

from detector.checkpoints import Checkpoint
from detector.clip.backbone import Backbone
from detector.data.datasets import read_dataset, select
from detector.methods.base import Evidence
from detector.methods.sdd import windows as sdd_windows
from detector.methods.sdd.bag import build_bag, jensen_shannon, sample_bag
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.losses import sdd_loss, triplet_loss
from detector.methods.sdd.model import Sdd
from detector.methods.sdd.recipe import SddRecipe
from detector.methods.sdd.train import SddRun, fit_sdd
from detector.methods.sdd.windows import LabelledPictures, draw_pool, random_window

SMALL = SddConfig(
    bag=6, heads=2, rank=2, target="unit", shortcut=False, inputs="local", readout="tokens", widths=(6, 8, 8), dense=True, adapted_blocks=1
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Synthetic images carry a checkerboard of four grey levels: easy for an enhancer, hard for a blurred eye."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = ["file,split,label,source"]
    board = 4 * (np.indices((48, 48)).sum(0) % 2)[..., None]
    for split, count in (("train", 64), ("val", 32)):
        for i in range(count):
            image = generator.normal(128, 4, (48, 48, 3)) + (board if i % 2 else 0)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{split}{i}.png")
            lines.append(f"{split}{i}.png,{split},{i % 2},{'x' if i % 2 else 'camera'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    examples = read_dataset(folder)
    return select(examples, "train"), select(examples, "val")


def test_divergence_is_zero_for_the_same_and_near_one_for_disjoint_tokens():
    tokens = torch.tensor([[50.0, 0, 0], [0, 50.0, 0]])
    np.testing.assert_allclose(jensen_shannon(tokens[0], tokens), [0, 1], atol=1e-5)


def test_the_bag_holds_one_token_for_each_level_and_none_twice():
    tokens = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    bag = sample_bag(tokens, 12)
    anchor = tokens[(tokens - tokens.mean(0)).norm(dim=1).argmin()]
    divergence = jensen_shannon(anchor, bag)
    assert len({tuple(row) for row in bag.tolist()}) == 12 and torch.equal(bag[0], anchor)
    steps = divergence.diff()
    assert (steps > 0).all() and steps.max() < 4 * steps.mean()
    drawn = sample_bag(tokens, 12, by_divergence=False, seed=1)
    assert torch.equal(drawn, sample_bag(tokens, 12, by_divergence=False, seed=1)) and not torch.equal(drawn, bag)


def test_triplets_by_hand():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    # own farthest: 1, 1, 4, 4; other nearest: 3, 2, 2, 6 → with margin 2: 0, 1, 4, 0
    assert float(triplet_loss(features, labels, 2.0)) == pytest.approx(5 / 4)
    assert float(triplet_loss(features, torch.zeros(4), 2.0)) == 0


def test_reconstruction_counts_real_images_only_and_does_not_move_its_target(tiny):
    torch.manual_seed(0)
    model, images = Sdd(tiny.model.visual, SMALL, torch.randn(6, 32)), torch.randn(4, 3, 32, 32)
    shares = torch.tensor([0.0, 1.0, 1.0, 1.0]).view(4, 1, 1).expand(4, 4, 4)
    recipe = SddRecipe(entropy=0, metric=0)
    out = model(images)
    losses = sdd_loss(out, shares, recipe)
    expected = (out.reconstruction - out.target)[:1].square().mean()
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-4)
    all_images = sdd_loss(out, shares, SddRecipe(entropy=0, metric=0, reconstruct_all=True))
    assert float(all_images["loss"]) != pytest.approx(float(expected), rel=1e-4)
    only_synthetic = sdd_loss(out, torch.ones(4, 4, 4), recipe)
    assert float(only_synthetic["loss"]) == 0


@pytest.mark.parametrize("shape", [(256, 200), (40, 30), (5, 400)])
def test_random_windows_are_full_and_the_same_for_the_same_seed(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    first, second = (random_window(pixels, 32, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8 and np.array_equal(first, second)


def test_plain_windows_are_crops_of_the_image_or_of_its_mirror_image():
    pixels = np.random.default_rng(0).integers(0, 256, (33, 34, 3), dtype=np.uint8)
    crops = {picture[y : y + 32, x : x + 32].tobytes() for picture in (pixels, pixels[:, ::-1]) for y in range(2) for x in range(3)}
    generator = np.random.default_rng(1)
    assert all(random_window(pixels, 32, generator, plain=1.0).tobytes() in crops for _ in range(20))
    assert not all(random_window(pixels, 32, generator, plain=0.0).tobytes() in crops for _ in range(20))


@pytest.mark.parametrize("workers", [1, 7])
def test_the_pool_is_the_same_for_any_number_of_threads(tiny, workers, monkeypatch):
    monkeypatch.setattr(sdd_windows, "WORKERS", workers)
    source = np.random.default_rng(0)
    pixels = [source.integers(0, 256, (*source.integers(30, 70, 2), 3), dtype=np.uint8) for _ in range(20)]
    pictures, recipe = (
        LabelledPictures(pixels, np.arange(20) % 2, np.array(["a", "b"] * 10)),
        SddRecipe(batch=4, windows=2, epoch_windows=2),
    )
    torch.manual_seed(0)
    head = SddHead(Sdd(tiny.model.visual, SMALL, torch.randn(6, 32)).eval(), normalisation(tiny))
    pool = draw_pool(pictures, head, recipe, seed=3)
    generator = np.random.default_rng((3, 17))
    expected = [random_window(pixels[17], 32, generator, recipe.plain) for _ in range(2)]
    np.testing.assert_array_equal(pool.pixels[34:36], expected)
    np.testing.assert_allclose(pool.tokens[34:36], head.frozen_tokens(np.stack(expected)), atol=2e-2)
    batches = list(pool.batches(recipe, (0, 1)))
    assert len(batches) == 10 and batches[0].pixels.shape == (4, 32, 32, 3) and batches[0].tokens.shape == (4, 17, 32)
    again = list(pool.batches(recipe, (0, 1)))
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(batches, again, strict=True))


def test_the_bag_comes_from_real_images_only(tiny, data):
    assert torch.equal(build_bag(tiny, data[0], SMALL), build_bag(tiny, [e for e in data[0] if e.label == 0], SMALL))


def test_training_finds_planted_traces_and_goes_on_after_a_crash(tiny, data, tmp_path, monkeypatch):
    recipe = SddRecipe(epochs=6, batch=16, rate=3e-3, average=0.8)
    whole = fit_sdd(*data, tiny, SddRun(SMALL, recipe, checkpoint=tmp_path / "whole.pt")).head
    pixels = [np.asarray(Image.open(e.path)) for e in data[1]]
    labels = np.array([e.label for e in data[1]])
    from sklearn.metrics import roc_auc_score

    scored = whole.score(Evidence(None, np.zeros((len(pixels), 15)), np.zeros((len(pixels), 1)), pixels)).logit
    assert roc_auc_score(labels, scored) > 0.8
    run = SddRun(SMALL, recipe, checkpoint=tmp_path / "cut.pt")

    def crash(self, contents, written=Checkpoint.save):
        written(self, contents)
        if contents["state"]["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", crash)
        fit_sdd(*data, tiny, run)
    resumed = fit_sdd(*data, tiny, replace(run, resume=True))
    state = torch.load(tmp_path / "cut.pt", weights_only=True)["state"]
    assert state["epoch"] == 6 and len(state["log"]) == 6
    again = resumed.head.score(Evidence(None, np.zeros((len(pixels), 15)), np.zeros((len(pixels), 1)), pixels)).logit
    np.testing.assert_array_equal(again, scored)
    with pytest.raises(ValueError, match="other settings"):
        fit_sdd(*data, tiny, replace(run, recipe=replace(recipe, rate=1.0), resume=True))


def test_a_checkpoint_holds_only_what_is_trained(tiny, data, tmp_path):
    head = fit_sdd(*data, tiny, SddRun(SMALL, SddRecipe(epochs=1, batch=16), checkpoint=tmp_path / "one.pt")).head
    saved = torch.load(tmp_path / "one.pt", weights_only=True)
    for part in (saved["module"], saved["average"], saved["state"]["weights"]):
        assert part.keys() == head.model.trained().keys()
        assert not any(name.startswith("tower.") and not name.endswith(("up", "down")) for name in part)
    with pytest.raises(RuntimeError, match="not the tensors"):
        head.model.load_trained(saved["average"] | {"bag2": torch.zeros(1)})
