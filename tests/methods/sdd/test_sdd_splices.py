"""Training that asks for place: spliced windows, their shares, and the loss on tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.methods.sdd.losses import sdd_loss
from detector.methods.sdd.model import Sdd
from detector.methods.sdd.recipe import PLACES, SddRecipe
from detector.methods.sdd.splices import random_region, splice_windows, token_shares
from detector.methods.sdd.train import SddRun, fit_sdd
from detector.methods.sdd.windows import LabelledPictures, WindowDraw


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


TOKENS = replace(PLACES, bag=6, heads=2, rank=2, widths=(4, 6, 8))


def test_regions_differ_in_shape_size_and_place():
    regions = [random_region(96, np.random.default_rng(seed)) for seed in range(200)]
    assert all(region.shape == (96, 96) and 0 <= region.min() and region.max() <= 1 for region in regions)
    areas = np.array([region.mean() for region in regions])
    assert areas.std() > 0.08 and 0.1 < areas.mean() < 0.5
    coverage = np.mean(regions, axis=0)  # every place is inside now and then
    assert coverage.min() > 0.03 and coverage.max() < 0.6


def test_a_splice_shows_the_donor_inside_and_the_host_outside():
    host, donor = np.full((64, 64, 3), 40, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    for seed in range(20):
        window, share = splice_windows(host, donor, np.random.default_rng(seed))
        expected = 40 + 160 * share
        assert np.abs(window.mean(2) - expected).mean() < 8  # blur and compression move the border only


def test_shares_of_tokens_are_the_mean_over_their_squares():
    share = np.zeros((32, 32), np.float32)
    share[:8, :4] = 1
    assert token_shares(share, 4)[0].tolist() == [0.5, 0, 0, 0] and token_shares(share, 4)[1:].sum() == 0


def draw_of(labels: list[int], splices: float) -> WindowDraw:
    pixels = [np.full((50, 50, 3), 60 + 120 * label, np.uint8) for label in labels]
    pictures = LabelledPictures(pixels, np.array(labels), np.array(["a"] * len(labels)))
    return WindowDraw(pictures, SddRecipe(windows=8, plain=1.0, splices=splices), size=32, grid=4, seed=0)


def test_shares_are_of_the_synthetic_part_whichever_side_it_is_on():
    draw, mixed = draw_of([0, 1] * 8, 0.5), 0
    for index in range(16):
        windows, shares = draw.windows(index)
        assert (shares[4:] == index % 2).all()  # half of the windows are as they were
        for window, share in zip(windows[:4], shares[:4], strict=True):
            brightness = window.reshape(4, 8, 4, 8, 3).mean((1, 3, 4))  # synthetic is bright
            assert np.abs((brightness - 60) / 120 - share).mean() < 0.08
            mixed += bool(0.05 < share.mean() < 0.95)
    assert 10 < mixed < 50  # the other splices are controls, of one class


def test_the_loss_on_tokens_pulls_each_token_to_its_own_side(tiny):
    torch.manual_seed(0)
    model, images = Sdd(tiny.model.visual, TOKENS, torch.randn(6, 32)), torch.randn(4, 3, 32, 32)
    shares = torch.zeros(4, 4, 4)
    shares[:, :, 2:] = 1
    shares[3] = 1
    out = model(images)
    losses = sdd_loss(out, shares, SddRecipe(entropy=1.0, metric=0.0, reconstruction=0.0, places=1.0))
    gradient = torch.autograd.grad(losses["places"], out.token_logits, retain_graph=True)[0]
    assert (gradient[:3, :, :2] > 0).all() and (gradient[:, :, 2:] < 0).all()
    image = torch.autograd.grad(losses["entropy"], out.token_logits)[0]
    assert (image[:3] == 0).all() and (image[3] < 0).all()  # a mixed window has no class


def test_a_loss_on_tokens_needs_their_logits(tiny):
    with pytest.raises(ValueError, match="read-out 'tokens'"):
        fit_sdd([], [], tiny, SddRun(replace(TOKENS, readout="summary"), SddRecipe(places=0.5)))
