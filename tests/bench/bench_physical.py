"""Speed of the physical descriptors against the plain formulation and against decoding the picture.

    python tests/bench/bench_physical.py [--megapixels 12] [--repeats 5]

One run, one synthetic picture, one thread, three ways: `describe`; the same fifteen numbers written plainly with
scikit-image, scipy.ndimage and numpy in float64; Pillow decoding the picture as a JPEG. Processor time is compared,
the least of all repeats, so that other work on the machine disturbs little. Needs scikit-image.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pictures import picture
from PIL import Image
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector.methods.physical import features as physical  # noqa: E402

try:
    import skimage.color
    import skimage.measure
except ImportError:
    sys.exit("This comparison needs scikit-image, which Cuescope itself does not: pip install scikit-image")


def plain(pixels: np.ndarray) -> np.ndarray:
    """The fifteen numbers as one would first write them."""
    luminance = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    return np.array([*plain_filters(luminance), *plain_spectrum(luminance), *plain_levels(pixels, luminance)])


def plain_filters(luminance: np.ndarray) -> tuple[float, ...]:
    laplacian = ndimage.laplace(luminance, mode="mirror")
    gradient = np.hypot(ndimage.sobel(luminance, 1, mode="mirror"), ndimage.sobel(luminance, 0, mode="mirror"))
    residual = luminance - ndimage.median_filter(luminance, size=3, mode="mirror")  # skimage's is far slower
    mask = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    second = ndimage.convolve(luminance, mask, mode="mirror")[1:-1, 1:-1]
    return (
        laplacian.var(),
        gradient.mean(),
        gradient.std(),
        (gradient > 0.1 * 4 * 2**0.5).mean(),
        residual.var(),
        (np.pi / 2) ** 0.5 / 6 * np.abs(second).mean(),
        ((residual - residual.mean()) ** 4).mean() / residual.var() ** 2 - 3,
    )


def plain_spectrum(luminance: np.ndarray) -> tuple[float, ...]:
    height, width = luminance.shape
    shorter = min(height, width)
    power = np.abs(np.fft.fft2(luminance * np.outer(np.hanning(height), np.hanning(width)))) ** 2
    power[0, 0] = 0
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.floor(radius * shorter + 0.5 + 1e-9).astype(int).ravel()
    means = (np.bincount(ring, power.ravel()) / np.bincount(ring))[1 : shorter // 2 + 1]
    slope = np.polyfit(np.log10(np.arange(1, shorter // 2 + 1) / shorter), np.log10(means), 1)[0]
    share = power[power > 0] / power.sum()
    return power[radius > 0.25 + 1e-9].sum() / power.sum(), slope, -(share * np.log2(share)).sum()


def plain_levels(pixels: np.ndarray, luminance: np.ndarray) -> tuple[float, ...]:
    levels = np.floor(luminance * 255 + 0.5 + 1e-9).astype(np.uint8)
    across = np.corrcoef(luminance[:, :-1].ravel(), luminance[:, 1:].ravel())[0, 1]
    down = np.corrcoef(luminance[:-1].ravel(), luminance[1:].ravel())[0, 1]
    red, green, blue = np.moveaxis(pixels.astype(np.float64), 2, 0)
    first, second = red - green, (red + green) / 2 - blue
    return (
        luminance.var(),
        skimage.measure.shannon_entropy(levels),
        (across + down) / 2,
        skimage.color.rgb2hsv(pixels)[..., 1].mean(),
        np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean()),
    )


def processor_time(function: Callable, repeats: int) -> tuple[float, np.ndarray]:
    """Least processor time of one call, in seconds, and what the last call returned."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pixels = picture(options.megapixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    fast, ours = processor_time(lambda: physical.describe(pixels), options.repeats)
    slow, theirs = processor_time(lambda: plain(pixels), max(1, options.repeats // 2))
    conversion, _ = processor_time(lambda: skimage.color.rgb2hsv(pixels), 1)
    decoding, _ = processor_time(lambda: np.asarray(Image.open(file).convert("RGB")), options.repeats)
    scaled, _ = processor_time(lambda: physical.measure(pixels), options.repeats)
    height, width = pixels.shape[:2]
    print(f"picture                        {width} × {height}, JPEG of {file.getbuffer().nbytes / 1e6:.1f} MB")
    print(f"describe                       {fast * 1e3:8.0f} ms")
    print(f"plain formulation              {slow * 1e3:8.0f} ms   {slow / fast:5.1f} × describe")
    without = slow - conversion  # rgb2hsv computes hue and value as well, which nobody asked for here
    print(f"the same without rgb2hsv       {without * 1e3:8.0f} ms   {without / fast:5.1f} × describe")
    print(f"Pillow decoding the JPEG       {decoding * 1e3:8.0f} ms   {decoding / fast:5.2f} × describe")
    print(f"measure (at the fixed scale)   {scaled * 1e3:8.0f} ms   {scaled / decoding:5.2f} × decoding")
    difference = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-9)
    worst = int(difference.argmax())
    print(f"largest relative difference    {difference[worst]:8.1e}      {physical.NAMES[worst]}")


if __name__ == "__main__":
    main()
