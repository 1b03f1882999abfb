"""interpret/attribution/exact.py: maps whose mean is the method's logit, and what stands out of a picture."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import picture, small_head

from detector.methods.base import Evidence, HeadError
from detector.methods.residual import dense
from detector.methods.residual.features import FEATURES, features, window_features
from detector.methods.residual.head import ResidualHead
from detector.methods.residual.window_rows import WindowRows
from interpret.attribution import cam, exact

SHAPES = [(300, 333), (90, 200), (64, 50), (600, 140)]


def residual_head(pooling: str) -> ResidualHead:
    """Large weights on the numbers of noise, with features that clipping cuts."""
    generator = np.random.default_rng(0)
    rows = np.stack([features(picture(128, 128, seed)) for seed in range(6)])
    mean, scale = rows.mean(0), rows.std(0) + np.where(np.arange(len(FEATURES)) % 7, 1e-2, 1e-5).astype(np.float32)
    curves = np.zeros((3, 43), np.float32)
    return ResidualHead(mean, scale, generator.normal(0, 0.05, len(FEATURES)).astype(np.float32), np.float32(0.3), curves, curves, pooling)


def scored(head: ResidualHead, pixels: np.ndarray) -> float:
    """What the method says of the picture."""
    evidence = Evidence.__new__(Evidence)
    object.__setattr__(evidence, "residual", features(pixels)[None])
    object.__setattr__(evidence, "residual_windows", WindowRows.join([window_features(pixels)]))
    return float(head.score(evidence).logit[0])


def shaded(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise whose strength grows from left to right, so that windows differ."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3)) * np.linspace(2, 40, width)[None, :, None]
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


# --- residual ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["windows", "image"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_of_the_maps_scored_windows_is_the_methods_logit(pooling, shape):
    head, pixels = residual_head(pooling), shaded(*shape)
    found = exact.residual_map(head, pixels)
    assert found.values.shape == shape and np.isfinite(found.values).all()
    assert found.logit == pytest.approx(scored(head, pixels), abs=1e-4)
    assert np.mean(found.logits) == pytest.approx(found.logit, abs=1e-9)


def test_each_window_has_the_heads_own_logit():
    head, pixels = residual_head("windows"), shaded(200, 260)
    found = dense.dense_windows(head, pixels)
    assert np.ptp(found.logits) > 0.05
    for (x0, y0, x1, y1), logit in zip(found.boxes, found.logits, strict=True):
        assert logit == pytest.approx(scored(head, pixels[y0:y1, x0:x1]), abs=1e-5)


def test_windows_are_dense_and_bounded():
    head, pixels = residual_head("windows"), shaded(256, 300)
    boxes = np.array(dense.dense_windows(head, pixels).boxes)
    for axis in (0, 1):
        assert np.diff(np.unique(boxes[:, axis])).max() <= dense.STRIDE == 32
    assert len(dense.dense_windows(head, pixels, limit=9).boxes) <= 9 + len(dense.scored_boxes(256, 300))


# --- tokens of SDD -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def token_head(tmp_path_factory):
    """SDD with random weights, whose windows' logits are means over tokens."""
    from tiny import write_tiny

    from detector.clip.backbone import Backbone
    from detector.methods.sdd.config import SddConfig
    from detector.methods.sdd.head import SddHead, normalisation
    from detector.methods.sdd.model import Sdd

    backbone = Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")
    torch.manual_seed(0)
    config = SddConfig(heads=2, bag=8, readout="tokens", target="unit", shortcut=False, inputs="local", widths=(8, 8, 8))
    model = Sdd(backbone.model.visual, config, torch.randn(8, 32))
    model.train()(torch.randn(8, 3, 32, 32))
    return SddHead(model.eval().requires_grad_(False), normalisation(backbone), scale=2.0, bias=0.5)


@pytest.mark.parametrize("shape", [(70, 90), (32, 32), (20, 50), (9, 13), (700, 100)])
def test_the_weighted_mean_of_the_token_map_is_the_methods_logit(token_head, shape):
    pixels = shaded(*shape)
    found = exact.token_map(token_head, pixels)
    logit = float(token_head.scale * token_head.unscaled([pixels])[0] + token_head.bias)
    weights = exact.coverage(shape, found.boxes, token_head.size)
    assert np.ptp(found.values[np.isfinite(found.values)]) > 0 and weights.sum() == pytest.approx(1)
    assert np.nansum(weights * found.values) == pytest.approx(logit, abs=1e-4) and found.logit == pytest.approx(logit, abs=1e-4)
    assert ((weights > 0) == np.isfinite(found.values)).all()


def test_a_head_without_token_logits_has_no_token_map(token_head):
    model = copy.copy(token_head.model)
    model.config = replace(model.config, readout="summary")
    head = replace(token_head, model=model)
    assert exact.TOKEN_LAYER in exact.MapHeads(token_head).layers() and exact.TOKEN_LAYER not in exact.MapHeads(head).layers()
    with pytest.raises(HeadError, match="no logits of single tokens"):
        head.token_logits([picture(32, 32)])


# --- both together --------------------------------------------------------------------------------------------------


def map_of(values: np.ndarray, layer: str, logit: float = 0.0) -> cam.Heatmap:
    return cam.Heatmap(np.asarray(values, np.float32), layer, (), np.zeros(1), logit)


def test_the_combined_map_rests_on_both_and_keeps_their_mean():
    generator = np.random.default_rng(0)
    tokens, residual = (map_of(generator.normal(level, 1, (120, 200)), "x", level) for level in (1.0, -3.0))
    found = exact.combined_map(tokens, residual)
    assert found.logit == -1 and found.values.mean() == pytest.approx((tokens.values.mean() + residual.values.mean()) / 2, abs=1e-4)
    for changed in ((map_of(-tokens.values, "x"), residual), (tokens, map_of(-residual.values, "x"))):
        assert np.abs(exact.combined_map(*changed).values - found.values).mean() > 0.5


def test_the_combined_map_says_nothing_far_from_what_was_read():
    values = np.ones((100, 400), np.float32)
    values[:, 100:] = np.nan
    found = exact.combined_map(map_of(values, "x"), map_of(np.ones((100, 400)), "x")).values
    assert found[:, :110] == pytest.approx(1) and np.isnan(found[:, 160:]).all()


def test_the_combined_map_has_a_value_where_a_token_was_read(token_head):
    heads = exact.MapHeads(token_head, residual_head("windows"))
    assert exact.COMBINED_LAYER in heads.layers() and exact.COMBINED_LAYER not in exact.MapHeads(token_head).layers()
    found = exact.maps(heads, shaded(90, 140), [exact.COMBINED_LAYER])
    read = np.isfinite(exact.token_map(token_head, shaded(90, 140)).values)
    assert list(found) == [exact.COMBINED_LAYER] and np.isfinite(found[exact.COMBINED_LAYER].values[read]).all()


# --- all maps, and what stands out ---------------------------------------------------------------------------------


def test_all_maps_stand_in_one_order():
    heads = exact.MapHeads(small_head(), residual_head("windows"))
    found = exact.maps(heads, picture(130, 140), reading=exact.Reading(dense_limit=4))
    assert list(found) == heads.layers() and list(found)[:2] == [cam.WINDOW_LAYER, exact.RESIDUAL_LAYER]
    assert all(heatmap.values.shape == (130, 140) for heatmap in found.values())
    assert exact.RESIDUAL_LAYER not in exact.MapHeads(small_head()).layers()


def flat_map(values: np.ndarray) -> cam.Heatmap:
    return cam.Heatmap(np.asarray(values, np.float32), "difference", (), np.zeros(1), 0.0)


def test_standing_out_forgets_level_and_scale_and_keeps_the_order():
    values = np.random.default_rng(0).normal(0, 1, (200, 200))
    values[:40, :40] += 6
    first, second = exact.standing_out(flat_map(values)).values, exact.standing_out(flat_map(3 * values - 40)).values
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)
    assert abs(np.median(first)) < 0.05 and first[:40, :40].mean() == pytest.approx(6, rel=0.1)
    assert (np.diff(first.ravel()[np.argsort(values.ravel())]) >= 0).all()


def test_a_flat_map_does_not_stand_out():
    values = np.full((40, 40), 3.0)
    values[:8, :8] = np.nan
    found = exact.standing_out(flat_map(values)).values
    assert np.isnan(found[:8, :8]).all() and (found[8:] == 0).all()
