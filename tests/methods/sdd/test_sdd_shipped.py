"""The shipped head of SDD: what its logit rests on, and what its windows reach."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from detector.methods.sdd.head import SddHead


@pytest.fixture(scope="module")
def head(suite) -> SddHead:
    return suite.heads["sdd"]


@pytest.fixture(scope="module")
def windows(photographs) -> list[np.ndarray]:
    """Eight windows of two photographs."""
    return [picture[y : y + 144, x : x + 144] for picture in photographs for y in (0, 100) for x in (0, 200)]


def changed(head: SddHead, change) -> SddHead:
    """A copy of the head after `change(model)`; the suite's own stays as it is."""
    model = copy.deepcopy(head.model)
    with torch.no_grad():
        change(model)
    return replace(head, model=model)


def test_noise_in_place_of_the_memory_moves_the_logits(head, windows):
    torch.manual_seed(0)
    noise = changed(head, lambda model: model.bag.copy_(torch.randn_like(model.bag) * model.bag.std()))
    moved = np.abs(noise.window_logits(windows) - head.window_logits(windows))
    assert moved.mean() > 0.02


def test_a_reconstruction_of_nothing_moves_the_logits(head, windows):
    def silence(model: torch.nn.Module) -> None:
        last = model.reconstruct.norms[-1]
        last.weight.zero_()
        last.bias.zero_()

    moved = np.abs(changed(head, silence).window_logits(windows) - head.window_logits(windows))
    assert moved.mean() > 0.05


def test_noise_in_place_of_the_pixels_differences_moves_the_logits(head, windows):
    """The low-level half reads the pixels: saving a window with its columns swapped in pairs keeps its content and moves the logit."""
    swapped = [window.reshape(144, 72, 2, 3)[:, :, ::-1].reshape(144, 144, 3) for window in windows]
    assert np.abs(head.window_logits(swapped) - head.window_logits(windows)).mean() > 0.2


def test_the_inside_of_a_large_picture_counts(head, photographs):
    picture = np.tile(photographs[0], (4, 3, 1))[:1000, :1100]
    other = picture.copy()
    other[150:850, 150:950] = np.tile(photographs[1], (4, 3, 1))[:700, :800]
    (before, after) = head.unscaled([picture, other])
    assert abs(before - after) > 0.05 and len(head.boxes(picture)) >= 12
