"""detector/methods/residual/: values worked out by hand, sizes, and the head's arithmetic."""

import numpy as np
import pytest

from detector.clip.backbone import Sizes
from detector.data.augmentation import recompress
from detector.methods.residual import features as residual
from detector.methods.residual.features import BIN, FEATURES, GROUPS, SPECTRUM, features
from detector.methods.residual.head import CLIP, ResidualHead, Weighting
from detector.methods.residual.window_rows import WindowRows


def cooccurrences(pixels):
    """Family name → (3 planes, cells), as `features` holds them."""
    values, tables = features(pixels) ** 2, {}
    for family in residual.FAMILIES:
        planes = [
            [i for i, name in enumerate(FEATURES) if name.startswith(f"cooc/{plane}/{family.name}/")] for plane in family.quantiser.planes
        ]
        tables[family.name] = values[np.array(planes)]
    return tables


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    grey = np.random.default_rng(seed).normal(128, 20, (height, width, 3))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2).astype(np.uint8)


def test_names_are_unique_and_fit_the_vector():
    assert len(set(FEATURES)) == len(FEATURES) == features(noise(128, 128)).size
    assert all(name.startswith("spectrum/") for name in FEATURES[SPECTRUM])
    assert not any(name.startswith("spectrum/") for name in FEATURES[SPECTRUM.stop :])
    assert {residual.group_of(name) for name in FEATURES} == set(GROUPS)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_constant_image_has_no_spectrum_and_one_pattern(value):
    flat = np.full((150, 140, 3), value, np.uint8)
    assert np.isfinite(features(flat)).all()
    np.testing.assert_allclose(residual.spectrum(flat)[1], 0, atol=1e-3)
    for name, rows in cooccurrences(flat).items():
        np.testing.assert_allclose(rows.max(1), 1, err_msg=name)


def test_white_noise_is_flat():
    frequency, curves = residual.spectrum(noise(512, 512))
    assert frequency.shape == (curves.shape[1],)
    # below 1/12 cycle the division by the local RMS leaks into what the high-pass took away
    assert np.abs(curves[:, frequency > 1 / 12] - curves[:, frequency > 1 / 12].mean(1, keepdims=True)).max() < 0.5


@pytest.mark.parametrize(
    "pattern, expected",
    [(lambda y, x: (x + y) % 2, np.sqrt(0.5)), (lambda y, x: x % 2, 0.5), (lambda y, x: x // 2 % 2, 0.25)],
)
def test_periodic_pattern_peaks_at_its_frequency(pattern, expected):
    y, x = np.mgrid[:256, :256]
    frequency, curves = residual.spectrum(grey(100 + 40 * pattern(y, x)))
    assert frequency[curves[0].argmax()] == pytest.approx(expected, abs=BIN)


def test_coherence_is_one_for_copies_and_zero_for_strangers():
    window = np.random.default_rng(0).normal(0, 10_000, (128, 128, 2)).astype(np.float32)  # thousandths
    planes = np.stack([window[..., 0], window[..., 0], window[..., 1]])
    _, coherence = residual._window_spectrum(planes)
    np.testing.assert_allclose(coherence[0], 1, atol=2e-3)  # pair (0, 1); the floor takes a thousandth
    assert np.abs(coherence[1:, 1:]).max() < 0.2


def planes_in_another_order(window: np.ndarray) -> np.ndarray:
    """`residual._planes` with its sums in another order."""
    red, green, blue = window.astype(np.float32).transpose(2, 0, 1)
    luma = np.float32(114) * blue + np.float32(587) * green + np.float32(299) * red
    return np.stack([1000 * channel for channel in (luma / np.float32(1000), blue, red)]) - luma * np.float32([0, 1, 1])[:, None, None]


@pytest.mark.parametrize("colour", [False, True])
def test_no_number_depends_on_the_order_of_a_sum(colour, photographs, monkeypatch):
    picture = photographs[0] if colour else grey(photographs[0].mean(2))
    before = features(picture)
    monkeypatch.setattr(residual, "_planes", lambda window: np.rint(planes_in_another_order(window)))
    np.testing.assert_array_equal(features(picture), before)


def test_a_greyscale_picture_has_no_coherence_with_colours_that_it_lacks(photographs):
    numbers = dict(zip(FEATURES, features(grey(photographs[0].mean(2))), strict=True))
    assert all(value == 0 for name, value in numbers.items() if name.startswith("coherence/"))


def test_a_photograph_keeps_its_coherence(photographs):
    numbers = dict(zip(FEATURES, features(photographs[0]), strict=True))
    assert max(abs(value) for name, value in numbers.items() if name.startswith("coherence/")) > 0.3


def scene(pixels):
    """Name → number, of the natural scene statistics."""
    return {name: value for name, value in zip(FEATURES, features(pixels), strict=True) if name.startswith("scene/")}


def test_scene_statistics_of_what_is_known(photographs):
    flat = scene(grey(np.full((128, 128), 90)))
    assert all(flat[f"scene/luma/s{scale}/size"] == pytest.approx(0, abs=1e-6) for scale in (2, 4, 8))
    # white noise: Gaussian, and what the local mean takes away makes neighbours oppose one another
    white = scene(grey(np.random.default_rng(0).normal(128, 40, (512, 512)).clip(0, 255)))
    assert white["scene/luma/s2/mean"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.04) and white["scene/luma/s2/horizontal product"] < 0
    stripes = scene(grey(np.repeat(np.random.default_rng(0).integers(0, 256, (256, 1)), 256, axis=1)))
    assert stripes["scene/luma/s2/horizontal product"] > 0.2 > stripes["scene/luma/s2/vertical product"]
    colourless = scene(grey(photographs[0].mean(2)))
    assert colourless["scene/red/s2/size"] == 0 < colourless["scene/luma/s2/size"]


def test_scene_statistics_outlast_compression(photographs):
    """Saving changes them less, in units of what it changes between photographs, than the patterns of single pixels."""
    first = np.stack([features(photo[:384, :384]) for photo in photographs])
    saved = np.stack([features(recompress(photo[:384, :384], ".jpg", 60)) for photo in photographs])
    moved = np.abs(saved - first).mean(0) / (first.std(0) + 1e-6)
    kinds = {kind: np.array([name.startswith(kind) for name in FEATURES]) for kind in ("scene/", "cooc/")}
    assert np.median(moved[kinds["scene/"]]) < 0.5 * np.median(moved[kinds["cooc/"]])


def test_cells_merge_mirror_and_negative():
    fold, names = residual._cells(1, 2)
    # of the nine pairs: {-- ++}, {-0 0- +0 0+}, {-+ +-}, {00}; digits are value + 1
    assert names == ("00", "01", "02", "11")
    np.testing.assert_array_equal(fold.sum(0), [2, 4, 2, 1])


def test_histogram_counts_by_hand():
    family = residual.Family("pairs", residual.SIGN, 2)
    row = np.array([[1, 1, 2, 0]], np.uint8)  # pairs 00, 0+, +-  as values; cells "11", "01", "02"
    for axis, plane in ((2, row), (1, row.T.copy())):
        counts = residual._count(np.stack([plane] * 3), family, axis)
        np.testing.assert_allclose(residual._histograms(counts, family), [[0, 1 / 3, 1 / 3, 1 / 3]] * 3)


@pytest.mark.parametrize("family", residual.FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("axis", [1, 2])
def test_patterns_are_counted_as_one_by_one(family, axis):
    quantised = np.random.default_rng(0).integers(0, 2 * family.quantiser.levels + 1, (3, 9, 11)).astype(np.uint8)
    expected = np.zeros((3, (2 * family.quantiser.levels + 1) ** family.order))
    lines = quantised if (axis == 2) != family.across else quantised.swapaxes(1, 2)
    for plane, rows in enumerate(lines):
        for neighbours in np.lib.stride_tricks.sliding_window_view(rows, family.order, axis=1).reshape(-1, family.order):
            expected[plane, int("".join(map(str, neighbours)), 2 * family.quantiser.levels + 1)] += 1
    np.testing.assert_array_equal(residual._count(quantised, family, axis), expected)


def test_quantiser_by_hand():
    plane = np.array([0, 0, 1, 3, 3, 0, 0], np.int16)  # first differences 0 1 2 0 -3 0, truncated at +-1
    for axis, planes in ((2, plane[None, None]), (1, plane[None, :, None])):
        quantised = residual._quantise(residual._differences(planes, residual.SIGN, axis), residual.SIGN)
        np.testing.assert_array_equal(quantised.ravel(), [1, 2, 2, 1, 0, 1])


def test_steps_follow_the_size_of_the_differences():
    """The quantisers' definition, written out: median of every second pixel, 0.7 of the 7 x 7 mean, 300 thousandths more."""
    size = np.random.default_rng(0).normal(0, 20_000, (3, 40, 38)).round().astype(np.float32)
    medians = np.stack([np.median(np.abs(plane[::2, ::2])) for plane in size])[:, None, None]
    around = np.pad(np.abs(size), ((0, 0), (3, 3), (3, 3)), mode="reflect")
    means = np.lib.stride_tricks.sliding_window_view(around, (7, 7), axis=(1, 2)).mean((3, 4), dtype=np.float64)
    for quantiser, steps in ((residual.SCALED, medians + 300), (residual.LOCAL, 0.7 * means + 300)):
        expected = np.clip(np.rint(size / steps), -2, 2) + 2
        assert np.mean(residual._quantise(size, quantiser) != expected) < 1e-3  # a value on the edge between two steps


def test_cooccurrences_sum_to_one_and_ignore_mirrors_and_turns():
    image = noise(128, 128)  # one window, so that a mirrored image has the same pixels in it
    image[30:90, 20:100] //= 3
    found = cooccurrences(image)
    for changed in (image[:, ::-1], image[::-1], image.transpose(1, 0, 2)):
        other = cooccurrences(np.ascontiguousarray(changed))
        for name, rows in found.items():
            np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
            # the median looks at every second pixel, which a mirror shifts by one
            np.testing.assert_allclose(other[name], rows, atol=0.01 if name in ("scaled", "dilated") else 1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 700), (127, 129), (256, 256), (2500, 1900)])
def test_any_size_is_finite_and_repeatable(shape):
    image = noise(*shape)
    first = features(image)
    assert first.shape == (len(FEATURES),) and first.dtype == np.float32 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, features(image.copy()))


def test_windows_are_bounded_and_reach_every_corner():
    image = noise(300, 2000)
    assert len(residual.windows(image)) == 3 * 4
    assert len(residual.windows(noise(256, 256))) == 4
    np.testing.assert_array_equal(residual.windows(image)[-1], image[-128:, -128:])


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Features that are noise, but for fifty spectrum bins and fifty histogram cells that tell the classes apart."""
    random = np.random.default_rng(3)
    labels = np.arange(400) % 2
    matrix = random.normal(size=(400, len(FEATURES))).astype(np.float32)
    matrix[:, :50] += labels[:, None]
    matrix[:, -50:] -= labels[:, None]
    return matrix, labels


@pytest.fixture(scope="module")
def head(planted) -> ResidualHead:
    matrix, labels = planted
    return ResidualHead.fit(matrix[:200], labels[:200])


def test_fit_separates_planted_data(planted, head):
    matrix, labels = planted[0][200:], planted[1][200:]
    logits = head.logits(matrix)
    assert np.mean((logits > 0) == labels) > 0.9
    assert head.weight[:50].mean() > 0 > head.weight[-50:].mean()
    gap = (head.spectrum_synthetic - head.spectrum_real).ravel()
    assert gap[:50].mean() == pytest.approx(1, abs=0.1) and gap[50:].mean() == pytest.approx(0, abs=0.1)


def test_fit_is_deterministic_and_takes_a_validation_set(planted):
    matrix, labels = planted
    heads = [ResidualHead.fit(matrix[:100], labels[:100], validation=(matrix[300:], labels[300:])) for _ in range(2)]
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)
    assert np.isfinite(heads[0].logits(matrix)).all()


def test_contributions_and_bias_are_the_logit(planted, head):
    shares = head.contributions(planted[0])
    assert tuple(shares) == GROUPS
    np.testing.assert_allclose(sum(shares.values()) + head.bias, head.logits(planted[0]), rtol=1e-4, atol=1e-4)


def test_head_survives_its_tensors(planted, head):
    tensors = head.tensors()
    assert all(array.dtype == np.float32 for array in tensors.values())
    np.testing.assert_array_equal(ResidualHead.from_tensors(tensors).logits(planted[0]), head.logits(planted[0]))
    assert {name: array.shape for name, array in tensors.items()} == ResidualHead.shapes(Sizes(1, 1))


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_windows(planted):
    """100 images of one to five windows each, (WindowRows, labels); the windows of an image share its label."""
    matrix, labels = planted
    counts = np.random.default_rng(0).integers(1, 6, 100)
    rows = [matrix[labels == index % 2][np.arange(index, index + count) % 200] for index, count in enumerate(counts)]
    return WindowRows.join(rows), np.arange(100) % 2


def test_features_of_windows_are_those_of_the_image_in_parts():
    image = noise(300, 200)
    rows = residual.window_features(image)
    assert rows.shape == (len(residual.windows(image)), len(FEATURES)) == (6, len(FEATURES))
    np.testing.assert_array_equal(rows[4], features(residual.windows(image)[4]))
    np.testing.assert_allclose(residual.pool_windows(rows), features(image), rtol=1e-5, atol=1e-5)


def test_the_logit_of_an_image_is_the_mean_of_its_windows(of_windows):
    rows, labels = of_windows
    head = ResidualHead.fit(rows, labels)
    logits, first = head.logits(rows), rows.counts[0]
    own = head.logits(rows.values[first : first + rows.counts[1]])
    assert head.pooling == "windows" and len(own) == rows.counts[1] and logits[1] == pytest.approx(own.mean(), abs=1e-4)
    assert np.mean((logits > 0) == labels) > 0.95
    shares = head.contributions(rows)
    np.testing.assert_allclose(sum(shares.values()) + head.bias, logits, atol=1e-4)
    mask = np.arange(100) % 3 == 0
    np.testing.assert_allclose(head.logits(rows.rows(mask)), logits[mask], atol=1e-5)
    odd = WindowRows(rows.values.copy(), rows.counts)
    odd.values[0] = 60_000  # clipped in its window, it moves the image's logit by its share and no more
    most = 2 * CLIP * np.abs(head.weight).sum() / first
    assert 0 < abs(head.logits(odd)[0] - logits[0]) <= most and (head.logits(odd)[1:] == logits[1:]).all()


def test_an_image_counts_once_however_many_windows_it_has(of_windows):
    rows, labels = of_windows
    twice = WindowRows.join([np.repeat(part, 2, axis=0) for part in np.split(rows.values, np.cumsum(rows.counts)[:-1])])
    np.testing.assert_allclose(ResidualHead.fit(rows, labels).logits(rows), ResidualHead.fit(twice, labels).logits(rows), atol=0.02)


def test_a_head_of_windows_needs_windows_and_says_so_in_its_card(of_windows, head):
    from types import SimpleNamespace

    from detector.methods.base import HeadError

    rows, labels = of_windows
    windows = ResidualHead.fit(rows, labels)
    again = ResidualHead.from_tensors(windows.tensors(), {"pooling": "windows"})
    np.testing.assert_array_equal(again.logits(rows), windows.logits(rows))
    evidence = SimpleNamespace(residual=np.zeros((2, len(FEATURES))), residual_windows=None)
    assert head.score(evidence).logit.shape == (2,)
    with pytest.raises(HeadError, match="single windows"):
        again.score(evidence)
    with pytest.raises(HeadError, match="does not know"):
        ResidualHead.from_tensors(windows.tensors(), {"pooling": "median"})


def test_the_source_penalty_draws_the_mean_logits_of_a_class_together(planted):
    matrix, labels = planted[0][:200].copy(), planted[1][:200]
    sources = np.array(["a", "b"])[np.arange(200) // 2 % 2]
    matrix[:, 50:80] += 2 * ((sources == "b") & (labels == 1))[:, None]  # tells source b from the real images, and not source a

    def gap(gamma):
        logits = ResidualHead.fit(matrix, labels, weighting=Weighting(sources=sources, gamma=gamma)).logits(matrix)
        means = [logits[(labels == 1) & (sources == name)].mean() for name in ("a", "b")]
        return means[1] - means[0]

    assert gap(0.0) > 2 * gap(3.0) > 0
    plain, unused = (ResidualHead.fit(matrix, labels, weighting=weighting) for weighting in (Weighting(), Weighting(sources=sources)))
    np.testing.assert_array_equal(plain.weight, unused.weight)
