"""Physical descriptors: values worked out by hand, and agreement with a slow float64 reference."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from detector.methods.physical import features as physical
from detector.methods.physical import sweep


def named(pixels: np.ndarray) -> dict[str, float]:
    return dict(zip(physical.NAMES, physical.describe(pixels), strict=True))


def grey(levels: np.ndarray) -> np.ndarray:
    """(H, W) levels 0 … 255 → (H, W, 3) uint8."""
    return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=2)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def textured(height: int, width: int) -> np.ndarray:
    """Coloured shapes, a gradient and grain: every descriptor is far from its limits."""
    coarse = ndimage.zoom(noise(9, 7).astype(float), (height / 9, width / 7, 1), order=1)
    grain = np.random.default_rng(1).normal(0, 12, (height, width, 1))
    ramp = np.linspace(-40, 40, width)[None, :, None] * [1.0, 0.5, -0.3]
    return np.clip(coarse + grain + ramp, 0, 255).astype(np.uint8)


# --- an independent reference: plain, slow, float64 ----------------------------------------------------------------


def reference(pixels: np.ndarray) -> np.ndarray:
    luminance = pixels.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    return np.array([*_edge_and_noise(luminance), *_spectrum(luminance), *_levels(pixels, luminance), *_colour(pixels)])


def _edge_and_noise(luminance: np.ndarray) -> tuple[float, ...]:
    laplacian = ndimage.convolve(luminance, np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float), mode="mirror")
    across, down = (ndimage.sobel(luminance, axis=axis, mode="mirror") for axis in (1, 0))
    gradient = np.sqrt(across**2 + down**2)
    residual = luminance - ndimage.median_filter(luminance, size=3, mode="mirror")
    second = ndimage.convolve(luminance, np.outer([1.0, -2, 1], [1, -2, 1]), mode="mirror")[1:-1, 1:-1]
    deviation = residual - residual.mean()
    return (
        laplacian.var(),
        gradient.mean(),
        gradient.std(),
        (gradient > 0.1 * 4 * np.sqrt(2)).mean(),
        residual.var(),
        np.sqrt(np.pi / 2) / 6 * np.abs(second).mean(),
        (deviation**4).mean() / residual.var() ** 2 - 3,
    )


def _spectrum(luminance: np.ndarray) -> tuple[float, ...]:
    height, width = luminance.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2(luminance * window)) ** 2
    power[0, 0] = 0
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    shorter = min(height, width)
    ring = np.floor(radius * shorter + 0.5 + 1e-9).astype(int)  # halves go up whatever rounding does
    means = np.array([power[ring == index].mean() for index in range(1, shorter // 2 + 1)])
    slope = np.polyfit(np.log10(np.arange(1, shorter // 2 + 1) / shorter), np.log10(means), 1)[0]
    share = power[power > 0] / power.sum()
    return power[radius > 0.25 + 1e-9].sum() / power.sum(), slope, -(share * np.log2(share)).sum()


def _levels(pixels: np.ndarray, luminance: np.ndarray) -> tuple[float, ...]:
    thousandths = pixels.astype(np.int64) @ [299, 587, 114]
    share = np.bincount(((thousandths + 500) // 1000).ravel(), minlength=256) / luminance.size
    share = share[share > 0]
    across = np.corrcoef(luminance[:, :-1].ravel(), luminance[:, 1:].ravel())[0, 1]
    down = np.corrcoef(luminance[:-1].ravel(), luminance[1:].ravel())[0, 1]
    return luminance.var(), -(share * np.log2(share)).sum(), (across + down) / 2


def _colour(pixels: np.ndarray) -> tuple[float, ...]:
    red, green, blue = np.moveaxis(pixels.astype(np.float64), 2, 0)
    high, low = pixels.max(axis=2).astype(float), pixels.min(axis=2).astype(float)
    first, second = red - green, (red + green) / 2 - blue
    return (
        np.where(high > 0, (high - low) / np.maximum(high, 1), 0).mean(),
        np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean()),
    )


@pytest.mark.parametrize(("height", "width"), [(256, 256), (97, 131), (150, 100), (40, 2000), (1100, 1000), (5, 4)])
def test_agrees_with_the_reference(height, width):
    pixels = textured(height, width)
    np.testing.assert_allclose(physical.describe(pixels), reference(pixels), rtol=1e-6, atol=1e-9)


def test_bands_do_not_show(monkeypatch):
    pixels = textured(65, 50)  # the last band is a single row
    whole = physical.describe(pixels)
    for module in (physical, sweep):
        monkeypatch.setattr(module, "BAND", 50)
    np.testing.assert_allclose(physical.describe(pixels), whole, rtol=1e-9)


def test_float32_spectrum_of_large_images(monkeypatch):
    pixels = textured(300, 200)
    monkeypatch.setattr(sweep, "SINGLE", 0)
    np.testing.assert_allclose(physical.describe(pixels), reference(pixels), rtol=1e-6)


# --- values worked out by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 90, 90), (1, 1, 1)])
def test_constant_grey_image_is_all_zeros(colour):
    pixels = np.full((256, 256, 3), colour, np.uint8)
    assert physical.describe(pixels).tolist() == [0.0] * 15
    assert physical.measure(pixels).tolist() == [0.0] * 15


def test_constant_colour_leaves_only_colour():
    values = named(np.full((64, 64, 3), (200, 50, 100), np.uint8))
    assert values.pop("saturation") == pytest.approx(0.75)
    assert values.pop("colourfulness") == pytest.approx(0.3 * np.hypot(150, 25))
    assert set(values.values()) == {0.0}


def test_vertical_step():
    """Columns 0 … 9 at 0, columns 10 … 19 at 102/255 = 0.4. The step touches two columns of twenty."""
    values = named(grey(np.where(np.arange(20) < 10, 0, 102) * np.ones((30, 1))))
    assert values["laplacian_variance"] == pytest.approx(2 * 0.4**2 / 20)  # +0.4, −0.4, mean 0
    assert values["sobel_mean"] == pytest.approx(2 * 1.6 / 20)
    assert values["sobel_std"] == pytest.approx(np.sqrt(2 * 1.6**2 / 20 - 0.16**2))
    assert values["edge_density"] == 2 / 20  # 1.6 is above 0.566
    assert values["residual_variance"] == values["noise_sigma"] == values["residual_kurtosis"] == 0
    assert values["luminance_variance"] == pytest.approx(0.2**2)
    assert values["histogram_entropy"] == pytest.approx(1.0)
    # Down: 1. Across, 19 pairs, 9 dark, 9 bright, 1 mixed: variances 10·9/19², covariance 9/19 − (10·9)/19².
    assert values["lag1_autocorrelation"] == pytest.approx((1 + (9 / 19 - 90 / 361) / (90 / 361)) / 2)


@pytest.mark.parametrize(("level", "share"), [(36, 0.0), (37, 0.2)])
def test_edge_threshold(level, share):
    """A step of h gives G = 4h; a tenth of 4√2 is passed at h = 0.1414, between 36/255 and 37/255."""
    assert named(grey(np.where(np.arange(10) < 5, 0, level) * np.ones((10, 1))))["edge_density"] == share


@pytest.mark.parametrize(("level", "share"), [(34, 0.0), (35, 1 / 36)])
def test_exactly_a_tenth_is_not_an_edge(level, share):
    """At the corner of a block gx = gy = 3·level: with 34 that is exactly a tenth of 4√2; its sides stay below."""
    levels = np.zeros((6, 6))
    levels[3:, 3:] = level
    assert named(grey(levels))["edge_density"] == share


@pytest.mark.parametrize("sigma", [2.0, 8.0, 20.0])
def test_noise_sigma_recovers_white_noise(sigma):
    levels = 128 + np.random.default_rng(3).normal(0, sigma, (512, 512))
    values = named(grey(np.clip(levels, 0, 255)))
    assert values["noise_sigma"] == pytest.approx(sigma / 255, rel=0.05)
    assert abs(values["lag1_autocorrelation"]) < 0.01
    assert abs(values["spectral_slope"]) < 0.5


def test_isolated_specks_have_high_kurtosis():
    """One speck in n pixels: the residual is non-zero once, so its excess kurtosis is about n."""
    levels = np.zeros((20, 20))
    levels[10, 10] = 255
    share = 1 / 400
    exact = (1 - 4 * share + 6 * share**2 - 3 * share**3) / (share * (1 - share) ** 2) - 3
    values = named(grey(levels))
    assert values["residual_kurtosis"] == pytest.approx(exact)
    assert values["residual_variance"] == pytest.approx(share - share**2)


@pytest.mark.parametrize(
    ("colour", "saturation"),
    [((255, 0, 0), 1), ((0, 7, 0), 1), ((0, 255, 255), 1), ((200, 100, 100), 0.5), ((9, 9, 9), 0), ((0, 0, 0), 0)],
)
def test_saturation_of_pure_colours(colour, saturation):
    assert named(np.full((8, 8, 3), colour, np.uint8))["saturation"] == pytest.approx(saturation)


def test_colourfulness_of_red_and_green_halves():
    """rg = ±255, yb = 127.5 throughout: σ = 255 and 0, μ = 0 and 127.5."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 0] = pixels[4:, :, 1] = 255
    assert named(pixels)["colourfulness"] == pytest.approx(255 + 0.3 * 127.5)


def test_checkerboard():
    """Laplacian ±4, and Hann-windowed power (3/8)² in the corner of the spectrum.

    The mean is not subtracted and is as strong as the pattern: beside DC the window leaks (3/8)² − (1/2)⁴ of it, so
    the high-frequency ratio is 9/64 : (9/64 + 5/64).
    """
    values = named(grey(255 * (np.indices((512, 512)).sum(axis=0) % 2)))
    assert values["high_frequency_ratio"] == pytest.approx(9 / 14, abs=2e-3)
    assert values["laplacian_variance"] == pytest.approx(16)
    assert values["sobel_mean"] == values["residual_variance"] == values["residual_kurtosis"] == 0
    assert values["lag1_autocorrelation"] == pytest.approx(-1)


def test_high_frequency_ratio_counts_what_lies_beyond_a_quarter_cycle():
    """A black picture with one white pixel has a flat spectrum: the ratio is the share of bins beyond 0.25."""
    levels = np.zeros((65, 65))
    levels[32, 32] = 255
    radius = np.hypot(np.fft.fftfreq(65)[:, None], np.fft.fftfreq(65)[None])
    values = named(grey(levels))
    assert values["high_frequency_ratio"] == pytest.approx((radius > 0.25).sum() / (65**2 - 1))
    assert values["spectral_entropy"] == pytest.approx(np.log2(65**2 - 1))
    assert values["spectral_slope"] == pytest.approx(0, abs=1e-9)


def test_alternating_columns():
    """Across −1, down +1; in one row, across alone."""
    stripes = 255 * (np.arange(64) % 2) * np.ones((64, 1))
    assert named(grey(stripes))["lag1_autocorrelation"] == pytest.approx(0)
    assert named(grey(stripes[:1]))["lag1_autocorrelation"] == pytest.approx(-1)


def test_slope_of_a_power_law():
    """White noise shaped so that power falls with the square of frequency."""
    size = 512
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    radius[0, 0] = np.inf
    shaped = np.fft.irfft2(np.fft.rfft2(np.random.default_rng(4).normal(size=(size, size))) / radius)
    values = named(grey(np.clip(128 + shaped * 40 / shaped.std(), 0, 255)))
    assert values["spectral_slope"] == pytest.approx(-2, abs=0.1)


def test_histogram_entropy():
    assert named(grey(np.arange(256) * np.ones((4, 1))))["histogram_entropy"] == pytest.approx(8)
    assert named(grey(np.where(np.arange(8) < 2, 10, 20) * np.ones((8, 1))))["histogram_entropy"] == pytest.approx(
        0.25 * 2 + 0.75 * np.log2(4 / 3)
    )


def test_a_mirror_image_or_a_turned_one_has_the_same_numbers():
    pixels = textured(90, 70)
    for view in (pixels[::-1], pixels[:, ::-1], pixels.transpose(1, 0, 2), np.asfortranarray(pixels)):
        np.testing.assert_allclose(physical.describe(view), physical.describe(pixels), rtol=1e-9)


# --- small, long and wrong inputs ----------------------------------------------------------------------------------


def undefined(height: int, width: int) -> set[str]:
    """The descriptors that the module declares to be undefined at this size."""
    shorter = min(height, width)
    names = {"noise_sigma"} if shorter < 3 else set()
    names |= {"spectral_slope"} if shorter < 4 else set()
    names |= {"high_frequency_ratio", "spectral_entropy"} if 2 in (height, width) else set()
    return names | ({"lag1_autocorrelation"} if height == width == 1 else set())


@pytest.mark.parametrize("height", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 30_000])
def test_undefined_only_where_declared(height, width):
    for pixels in (noise(height, width), noise(width, height).transpose(1, 0, 2), np.full((height, width, 3), 9, "u1")):
        assert {name for name, value in named(pixels).items() if not np.isfinite(value)} == undefined(height, width)
        assert np.isfinite(physical.measure(pixels)).all()


def test_smallest_sizes_agree_with_hand_values():
    values = named(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))  # one row, black and white
    assert values["laplacian_variance"] == pytest.approx(4)  # mirrored neighbours: +2 and −2
    assert values["luminance_variance"] == pytest.approx(0.25)
    assert values["lag1_autocorrelation"] == 0  # a single pair has no variance


def test_a_window_that_sees_only_black_gives_zeros():
    """The Hann window is zero on the border, so a white frame around black has no spectrum."""
    levels = np.full((32, 32), 255)
    levels[1:-1, 1:-1] = 0
    values = named(grey(levels))
    assert [values[name] for name in ("high_frequency_ratio", "spectral_slope", "spectral_entropy")] == [0, 0, 0]


def test_grey_has_no_colour():
    values = named(grey(np.random.default_rng(0).integers(0, 256, (40, 50))))
    assert values["saturation"] == values["colourfulness"] == 0


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_wrong_arrays_are_refused(wrong):
    for function in (physical.describe, physical.measure):
        with pytest.raises(ValueError, match="expected RGB pixels"):
            function(wrong)


# --- the fixed scale -----------------------------------------------------------------------------------------------


def resize_then_crop(pixels: np.ndarray) -> np.ndarray:
    transforms = pytest.importorskip("torchvision.transforms")
    resize = transforms.Resize(256, transforms.InterpolationMode.BICUBIC)
    return np.asarray(transforms.CenterCrop(256)(resize(Image.fromarray(pixels)))).astype(int)


SIZES = [(256, 256), (256, 300), (257, 256), (300, 401), (900, 601), (40, 33), (2, 60), (700, 3), (1000, 3), (1, 1)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fixed_scale_agrees_with_resize_then_crop(height, width):
    pixels = noise(height, width)
    assert np.abs(physical.fixed_scale(pixels) - resize_then_crop(pixels)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(30_000, 1), (1, 30_000), (3, 20_001)])
def test_fixed_scale_of_a_very_long_image(height, width):
    """A plain resize would make 7,680,000 × 256 pixels; one of the middle stretch must give the same square."""
    pixels = noise(height, width)
    middle = [slice(max(side // 2 - 100, 0), side - max(side // 2 - 100, 0)) for side in (height, width)]
    scaled = physical.fixed_scale(pixels)
    assert scaled.shape == (256, 256, 3) and scaled.dtype == np.uint8 and scaled.flags.writeable
    assert np.abs(scaled - resize_then_crop(pixels[tuple(middle)])).max() <= 1


def test_measure_is_describe_at_the_fixed_scale():
    pixels = textured(300, 500)
    np.testing.assert_array_equal(physical.measure(pixels), physical.describe(physical.fixed_scale(pixels)))


# --- the tables ----------------------------------------------------------------------------------------------------


def test_names_groups_and_meanings():
    assert physical.NAMES == (
        "laplacian_variance", "sobel_mean", "sobel_std", "edge_density", "residual_variance", "noise_sigma",
        "residual_kurtosis", "high_frequency_ratio", "spectral_slope", "spectral_entropy", "luminance_variance",
        "histogram_entropy", "lag1_autocorrelation", "saturation", "colourfulness",
    )  # fmt: skip
    assert set(physical.GROUPS) == set(physical.MEANING) == set(physical.NAMES)
    assert set(physical.GROUPS.values()) == {"edge", "noise", "frequency", "statistics", "colour"}
    assert physical.PAPER_CORE == tuple(physical.NAMES[number - 1] for number in (1, 2, 3, 5, 8))
