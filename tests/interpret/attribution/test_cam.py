"""interpret/attribution/cam.py: the formulas by hand and by captum, the map in the coordinates of the image, users side by side."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import Head, Red, picture, small_head

from interpret.attribution import cam

# --- formulas ------------------------------------------------------------------------------------------------------


def test_formulas_by_hand():
    activation = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    gradient = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # means 2 and −1
    assert cam.grad_cam(activation, gradient).tolist() == [[[2 * 1 - 3, 2 * 2 - 4]]]  # signed: −1 stays
    assert cam.hires_cam(activation, gradient).tolist() == [[[1 - 6, 6 + 0]]]


@pytest.mark.parametrize("layer", ["tokens", "difference", "stage1", "stage2", "stage3"])
def test_one_pass_for_all_layers_equals_captum_and_the_textbook_for_each(layer):
    from captum.attr import LayerGradCam

    model, images = small_head().model, torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits, found = cam.gradients(model, images, list(model.layers()))
    reference = LayerGradCam(lambda x: model(x).logits, model.layers()[layer]).attribute(images)[:, 0]
    assert reference.abs().max() > 1e-3
    torch.testing.assert_close(cam.grad_cam(*found[layer]), reference, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, model(images).logits.detach())
    kept = {}
    handle = model.layers()[layer].register_forward_hook(lambda m, i, o: kept.setdefault("a", o.requires_grad_() if o.is_leaf else o))
    model(images).logits.sum().backward(inputs=[kept["a"]])
    handle.remove()
    a, g = kept["a"].detach(), kept["a"].grad
    by_hand = torch.stack([sum(g[b, c].mean() * a[b, c] for c in range(a.shape[1])) for b in range(3)])
    torch.testing.assert_close(cam.grad_cam(*found[layer]), by_hand, rtol=1e-4, atol=1e-6)


def test_unit_is_logits_per_window():
    # the logit is linear in the difference map, so the mean of the map over the window is the logit itself
    head = Head(Red())
    logits, maps = cam.window_maps(head.model, head.prepare([picture(32, 32)]), ["difference"])
    assert maps["difference"].mean().item() == pytest.approx(logits.item(), abs=1e-6)


def test_error_map_is_the_length_of_the_difference_and_never_negative():
    model, images = small_head().model, torch.randn(2, 3, 32, 32)
    _, maps = cam.window_maps(model, images, [cam.ERROR_LAYER])
    torch.testing.assert_close(maps[cam.ERROR_LAYER], model(images).difference.pow(2).sum(1).sqrt().detach())


# --- the whole image -----------------------------------------------------------------------------------------------


def test_map_has_the_size_of_the_image_and_finds_red_in_its_place():
    pixels = np.full((100, 150, 3), 128, np.uint8)
    pixels[60:84, 100:130] = (255, 30, 30)
    found = cam.heatmap(Head(Red()), pixels)
    assert found.values.shape == (100, 150) and found.values.dtype == np.float32
    y, x = np.unravel_index(found.values.argmax(), found.values.shape)
    assert 60 <= y < 84 and 100 <= x < 130
    assert found.values[:40, :80].max() == pytest.approx(0, abs=1e-6)  # a grey area is cold
    assert found.logit == pytest.approx(found.logits.mean()) and len(found.logits) == len(found.boxes)


def test_windows_merge_without_a_seam():
    found = cam.heatmap(Head(Red()), np.full((80, 200, 3), (200, 50, 50), np.uint8)).values
    np.testing.assert_allclose(found, found[0, 0], rtol=1e-4)  # one colour, one value: also where two windows overlap


def test_windows_that_disagree_fade_into_each_other():
    class Mean(Red):  # one value for all of a window, so that every step in the map comes from the merging
        def forward(self, images):
            red = self.tap_difference(images[:, :1].mean((2, 3), keepdim=True).expand(-1, -1, 8, 8))
            return SimpleNamespace(logits=self.gain * red.mean((1, 2, 3)), difference=red)

    pixels = np.full((32, 160, 3), 128, np.uint8)
    pixels[:, 80:] = (255, 30, 30)
    values = cam.heatmap(Head(Mean()), pixels).values[16]
    assert np.ptp(values) > 2 and np.abs(np.diff(values)).max() < 0.25 * np.ptp(values)


@pytest.mark.parametrize("layer", ["tokens", "difference", "stage1", "stage3", cam.ERROR_LAYER])
def test_a_mirrored_image_has_the_mirrored_map(layer):
    head, pixels = small_head(), picture()
    own, mirrored = (cam.heatmap(head, view, layer).values for view in (pixels, np.ascontiguousarray(pixels[:, ::-1])))
    assert np.ptp(own) > 1e-3
    np.testing.assert_allclose(mirrored[:, ::-1], own, rtol=1e-3, atol=1e-4 * np.abs(own).max())


def test_without_averaging_this_model_would_not_mirror():
    head, pixels = small_head(), picture(32, 32)
    _, maps = cam.window_maps(head.model, head.prepare([pixels, pixels[:, ::-1].copy()]), ["difference"])
    assert (maps["difference"][0] - maps["difference"][1].flip(-1)).abs().max() > 0.1 * maps["difference"].abs().max()


@pytest.mark.parametrize("size", [(20, 20), (20, 100), (100, 9), (1, 1)])
def test_images_smaller_than_a_window(size):
    found = cam.heatmap(small_head(), picture(*size))
    assert found.values.shape == size and np.isfinite(found.values).any()


def test_most_works_on_a_smaller_copy_and_says_so():
    pixels = picture(300, 400)
    limited, full = (cam.heatmap(small_head(), pixels, window_limit=most) for most in (6, None))
    assert len(limited.boxes) <= 6 < len(full.boxes)
    assert "reduced" in limited.note and full.note == ""
    assert limited.values.shape == (300, 400)
    assert max(box[2] for box in limited.boxes) == 400 and max(box[3] for box in limited.boxes) == 300


def test_nan_where_a_long_strip_is_not_read():
    found = cam.heatmap(small_head(), picture(32, 600), "difference", window_limit=3)
    assert len(found.boxes) == 3 and np.isnan(found.values).any() and np.isfinite(found.values).any()
    outside = np.ones((32, 600), bool)
    for x0, y0, x1, y1 in found.boxes:
        outside[y0:y1, x0:x1] = False
    assert (np.isnan(found.values) == outside).all()


def test_progress_counts_windows():
    calls = []
    found = cam.heatmap(small_head(), picture(), batch=3, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (2 * len(found.boxes),) * 2 and len(calls) == 2 * -(-len(found.boxes) // 3)


def test_all_layers_at_once_equal_one_at_a_time():
    head, pixels = small_head(), picture()
    together = cam.heatmaps(head, pixels)
    assert list(together) == cam.layers_of(head) and list(together)[0] == cam.DEFAULT_LAYER == cam.WINDOW_LAYER
    for layer, found in together.items():
        np.testing.assert_allclose(found.values, cam.heatmap(head, pixels, layer).values, rtol=1e-4, atol=1e-6)
        assert found.signed == (layer != cam.ERROR_LAYER)


def test_the_heads_scaling_reaches_logits_and_maps():
    head, pixels = small_head(), picture()
    plain = cam.heatmaps(head, pixels, ["difference", cam.ERROR_LAYER])
    head.scale, head.bias = 0.5, 3.0
    scaled = cam.heatmaps(head, pixels, ["difference", cam.ERROR_LAYER])
    np.testing.assert_allclose(scaled["difference"].logits, 0.5 * plain["difference"].logits + 3)
    np.testing.assert_allclose(scaled["difference"].values, 0.5 * plain["difference"].values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scaled[cam.ERROR_LAYER].values, plain[cam.ERROR_LAYER].values, rtol=1e-4)


def test_the_map_of_windows_by_hand():
    """Half red, half grey: far from the border the windows see one half only, and the map is their logit there."""
    pixels = np.full((32, 320, 3), 100, np.uint8)
    pixels[:, :160, 0] = 200
    head = Head(Red())
    values = cam.heatmap(head, pixels, cam.WINDOW_LAYER).values
    red, grey = head.window_logits([pixels[:, :32], pixels[:, -32:]])
    assert red > grey
    np.testing.assert_allclose(values[:, :100], red, rtol=1e-5)
    np.testing.assert_allclose(values[:, 220:], grey, atol=1e-6)
    assert (np.diff(values[16, 100:220]) <= 1e-6).all()
    assert cam.dense_boxes(32, 32, 32, []) == [(0, 0, 32, 32)] and cam.dense_boxes(3000, 3000, 32, [(0, 0, 1, 1)]) == [(0, 0, 1, 1)]


def test_unknown_layer():
    with pytest.raises(KeyError):
        cam.heatmap(small_head(), picture(), "stage9")


def test_24_megapixels_in_bounded_memory():
    import tracemalloc

    class Coarse(Head):  # quick: the model sees every eighth pixel
        def prepare(self, windows):
            return super().prepare([window[::8, ::8] for window in windows])

    pixels = np.zeros((4000, 6000, 3), np.uint8)
    pixels[1000:1200, 5000:5400, 0] = 255
    head = Coarse(Red(), size=800)
    tracemalloc.start()
    found = cam.heatmap(head, pixels, "difference", batch=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.6 * pixels.shape[0] * pixels.shape[1] * 4  # numpy's share: the map, its weights, one mask of bytes, a batch
    assert found.values[1100, 5200] > 1 > found.values[3000, 1000]


# --- users side by side --------------------------------------------------------------------------------------------


def test_two_users_at_once_get_their_own_maps():
    head, pictures = small_head(), [picture(seed=seed) for seed in range(6)]
    alone = [cam.heatmap(head, pixels, "stage1") for pixels in pictures]
    together, start = [None] * 6, threading.Barrier(7)

    def explain(index: int) -> None:
        start.wait()
        together[index] = cam.heatmap(head, pictures[index], "stage1", batch=2)

    def score() -> None:  # someone who only scores must not be seen by anybody's hooks
        start.wait()
        for _ in range(20):
            with torch.inference_mode():
                head.model(torch.zeros(1, 3, 32, 32))

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(6)] + [threading.Thread(target=score)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(alone, together, strict=True):
        np.testing.assert_allclose(theirs.values, mine.values, rtol=1e-4, atol=1e-5)


def test_no_hook_and_no_gradient_stays_behind():
    head = small_head()
    cam.heatmaps(head, picture())
    assert all(not module._forward_hooks and not module._backward_hooks for module in head.model.modules())
    assert all(parameter.grad is None for parameter in head.model.parameters())
    assert not head.model.training


def test_private_copy_shares_the_weights():
    model = small_head().model
    mine = cam.private_copy(model)
    assert all(a is b for a, b in zip(mine.parameters(), model.parameters(), strict=True))
    assert mine.tap_stage1 is not model.tap_stage1


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_works_where_gradients_are_off(mode):
    head, pixels = small_head(), picture()
    expected = cam.heatmap(head, pixels).values
    with mode():
        np.testing.assert_allclose(cam.heatmap(head, pixels).values, expected, rtol=1e-3, atol=1e-4)


def test_frozen_weights_are_no_obstacle():
    head = small_head()
    expected = cam.heatmap(head, picture()).values
    head.model.requires_grad_(False)
    np.testing.assert_allclose(cam.heatmap(head, picture()).values, expected, rtol=1e-3, atol=1e-4)
