"""Training of SDD: the bag's levels, the losses by hand, balanced windows, and resuming after a crash."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_tiny

from detector.checkpoints import Checkpoint
from detector.clip.backbone import Backbone
from detector.data.augmentation import recompress
from detector.data.datasets import read_dataset, select
from detector.data.windows import crop_window
from detector.methods.base import Evidence
from detector.methods.sdd import windows as sdd_windows
from detector.methods.sdd.bag import build_bag, jensen_shannon, sample_bag
from detector.methods.sdd.enhancer import EnhancerTrainer, Lessons, WindowSample, pretrain_enhancer, sample_windows, teacher_loss
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.losses import sdd_loss, triplet_loss
from detector.methods.sdd.model import Sdd, SddConfig
from detector.methods.sdd.recipe import SddRecipe
from detector.methods.sdd.train import SddRun, fit_sdd
from detector.methods.sdd.windows import batches, random_window

SMALL = SddConfig(bag=6, heads=2, rank=2, inputs="highpass")


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
    labels = torch.tensor([0.0, 1.0, 1.0, 1.0])
    recipe = SddRecipe(entropy=0, metric=0)
    losses = sdd_loss(model, images, labels, recipe)
    out = model(images)
    expected = (out.reconstruction - out.tokens)[:1].square().mean()
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-4)
    all_images = sdd_loss(model, images, labels, SddRecipe(entropy=0, metric=0, reconstruct_all=True))
    assert float(all_images["loss"]) != pytest.approx(float(expected), rel=1e-4)
    only_synthetic = sdd_loss(model, images, torch.ones(4), recipe)
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


def test_batches_hold_as_many_real_as_synthetic_images():
    pictures = [np.full((40, 40, 3), i, np.uint8) for i in range(30)]
    labels = np.array([0] * 24 + [1] * 6)
    for windows, own in batches(pictures, labels, 32, SddRecipe(batch=8), (0, 0)):
        assert windows.shape == (8, 32, 32, 3) and own.tolist().count(0) == own.tolist().count(1) == 4


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


def test_the_teacher_s_loss_by_hand():
    sample = WindowSample(np.zeros((3, 1, 1, 3), np.uint8), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2.0, 0.0, -3.0]))
    rows = torch.tensor([0, 1, 2])
    # entropies at logit 0 are ln 2, the synthetic one weighs twice; smooth L1 of 2, 0 and 3 is 1.5, 0 and 2.5
    entropy, taught = np.log(2) * (2 + 1 + 1) / 3, 4 / 3
    assert float(teacher_loss(torch.zeros(3), sample, rows, 0.25)) == pytest.approx(0.75 * entropy + 0.25 * taught, rel=1e-5)


def test_the_enhancer_s_own_training_goes_on_from_its_file(tiny, data, tmp_path):
    recipe = SddRecipe(epochs=1, batch=16, pretrain_epochs=3, pretrain_windows=1, pretrain_batch=16)
    config = replace(SMALL, inputs="local", covariance=True)
    drawn = []

    def teacher():
        drawn.append(1)
        return lambda window: float(window.mean() > 127)

    whole = fit_sdd(*data, tiny, SddRun(config, recipe, enhancer=tmp_path / "whole.pt"), teacher).head
    run, run_epoch = SddRun(config, recipe, enhancer=tmp_path / "cut.pt"), EnhancerTrainer.run_epoch

    def killed(self):
        if self.state.epoch == 2:
            raise KeyboardInterrupt
        run_epoch(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EnhancerTrainer, "run_epoch", killed)
        fit_sdd(*data, tiny, run, teacher)
    assert torch.load(run.enhancer, weights_only=True)["state"]["epoch"] == 2
    run = replace(run, resume=True)
    resumed = fit_sdd(*data, tiny, run, teacher).head
    for name, value in whole.tensors().items():
        torch.testing.assert_close(resumed.tensors()[name], value, msg=name)
    drawn.clear()
    fit_sdd(*data, tiny, replace(run, config=replace(config, use_cfdl=False)), teacher)
    assert not drawn  # a variant of the rest of the model takes the finished enhancer over
    fit_sdd(*data, tiny, replace(run, recipe=replace(recipe, pretrain_rate=1e-3)), teacher)
    assert drawn  # other settings, other enhancer


def test_the_enhancer_alone_learns_what_its_teacher_hears(tiny, data):
    """Labels are shuffled, so that the checkerboard can only come from the teacher."""
    recipe = SddRecipe(pretrain_epochs=6, pretrain_windows=8, pretrain_batch=32, pretrain_rate=1e-2, average=0.8, teacher_share=1.0)
    pictures = [np.asarray(Image.open(e.path)) for e in data[0]]
    planted = np.array([e.label for e in data[0]])
    board = np.where(np.indices((32, 32)).sum(0) % 2, 1.0, -1.0)
    teacher = lambda window: float(np.abs((window.mean(-1) * board).mean()) - 1)  # noqa: E731
    torch.manual_seed(0)
    model = Sdd(tiny.model.visual, SddConfig(bag=6, heads=2, rank=2, inputs="local", covariance=True), torch.randn(6, 32))
    head = SddHead(model, normalisation(tiny))
    sample = sample_windows(pictures, np.random.default_rng(0).permutation(planted), 32, teacher, recipe, seed=0)
    before = [p.clone() for p in model.tower.parameters()]
    pretrain_enhancer(head, Lessons(lambda: sample, len(sample.labels)), recipe, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.tower.parameters(), strict=True))
    assert all((stage.semantic[1].weight == 0).all() and (stage.semantic[1].bias == 1).all() for stage in model.enhance.stages)
    with torch.no_grad():
        summaries = model.eval().enhance(head.prepare(list(sample.pixels)), None)
    design = torch.cat([summaries, torch.ones(len(summaries), 1)], dim=1)
    half = len(design) // 2
    fitted = torch.linalg.lstsq(design[:half].T @ design[:half] + torch.eye(design.shape[1]), design[:half].T @ sample.logits[:half, None])
    assert np.corrcoef((design[half:] @ fitted.solution)[:, 0], sample.logits[half:])[0, 1] > 0.7


def one_after_another(pixels, size, generator, plain):
    """A window made while it is drawn, by one generator."""
    changed = generator.random() >= plain
    if changed and generator.random() < 0.5:
        factor, kernels = generator.uniform(0.7, 1.4), (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=kernels[generator.integers(3)])
    y, x = (int(generator.integers(max(1, side - size + 1))) for side in pixels.shape[:2])
    window = crop_window(pixels, (x, y, min(x + size, pixels.shape[1]), min(y + size, pixels.shape[0])), size)
    window = np.ascontiguousarray(window[:, ::-1] if generator.random() < 0.5 else window)
    if changed and generator.random() < 0.15:
        window = cv2.GaussianBlur(window, (0, 0), generator.uniform(0.3, 1.5))
    return recompress(window, ".jpg", int(generator.integers(50, 101))) if changed and generator.random() < 0.5 else window


@pytest.mark.parametrize("workers", [1, 7])
def test_windows_made_by_threads_are_those_of_one_generator(workers, monkeypatch):
    monkeypatch.setattr(sdd_windows, "WORKERS", workers)
    source = np.random.default_rng(0)
    pictures = [source.integers(0, 256, (*source.integers(30, 70, 2), 3), dtype=np.uint8) for _ in range(24)]
    labels, recipe = np.arange(24) % 2, SddRecipe(batch=4)
    generator = np.random.default_rng((3, 1))
    drawn = [generator.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    for step, (windows, own) in enumerate(batches(pictures, labels, 32, recipe, (3, 1))):
        rows = np.concatenate([part[2 * step : 2 * step + 2] for part in drawn])
        assert np.array_equal(own, labels[rows])
        for window, row in zip(windows, rows, strict=True):
            assert np.array_equal(window, one_after_another(pictures[row], 32, generator, recipe.plain))
    assert step == 5


def test_a_checkpoint_holds_only_what_is_trained(tiny, data, tmp_path):
    head = fit_sdd(*data, tiny, SddRun(SMALL, SddRecipe(epochs=1, batch=16), checkpoint=tmp_path / "one.pt")).head
    saved = torch.load(tmp_path / "one.pt", weights_only=True)
    for part in (saved["module"], saved["average"], saved["state"]["weights"]):
        assert part.keys() == head.model.trained().keys()
        assert not any(name.startswith("tower.") and not name.endswith(("up", "down")) for name in part)
    with pytest.raises(RuntimeError, match="not the tensors"):
        head.model.load_trained(saved["average"] | {"bag2": torch.zeros(1)})
