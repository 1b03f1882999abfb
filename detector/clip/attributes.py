"""Photographic attributes: the concepts of the vocabulary that an operation can induce, with the operations.

The table serves four uses, so it is written once: captions while the embedded model is trained, tests on photographs
it has not seen (apply the operation, the concept's activation must rise), what-if edits, and concept directions.

Every operation maps an RGB image `(H, W, 3) uint8` and a strength in [0, 1] to an image of the same shape and type.
Lengths scale with the shorter side, so that a small and a large copy of one photograph change alike. Random parts
(grain, dust) are seeded from the image size: the same call gives the same pixels. All choices here are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from detector.clip.vocabulary import Concept, vocabulary
from detector.data.augmentation import recompress

Operation = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Attribute:
    """A concept of the vocabulary; `operation` induces its positive pole, `opposite` its negative one."""

    concept: Concept
    operation: Operation
    opposite: Operation | None

    @property
    def prompts(self) -> tuple[str, str]:
        """The two sentences whose embeddings' difference is the concept's direction."""
        return self.concept.positive_prompt, self.concept.negative_prompt


# --- helpers -------------------------------------------------------------------------------------------------------


def _short_side(image: np.ndarray) -> int:
    return min(image.shape[:2])


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _mix(image: np.ndarray, other: np.ndarray, weight) -> np.ndarray:
    """image·(1 − weight) + other·weight, with a scalar or an (H, W, 1) weight."""
    return _to_uint8(image * (1.0 - weight) + other.astype(np.float32) * weight)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 1e-3))


def _radius(image: np.ndarray) -> np.ndarray:
    """Distance from the centre, (H, W, 1); 1 at half the shorter side."""
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    half = max(_short_side(image) / 2, 1)
    return np.hypot((y - (height - 1) / 2) / half, (x - (width - 1) / 2) / half)[..., None].astype(np.float32)


def _noise(image: np.ndarray, channels: int) -> np.ndarray:
    """Unit Gaussian noise whose grain is one 160th of the shorter side, at least a pixel; (H, W, channels)."""
    height, width = image.shape[:2]
    cell = max(1, round(_short_side(image) / 160))
    generator = np.random.default_rng(height * 65_537 + width)
    field = generator.standard_normal((-(-height // cell), -(-width // cell), channels)).astype(np.float32)
    return np.repeat(np.repeat(field, cell, 0), cell, 1)[:height, :width]


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _zoom(image: np.ndarray, factor: float, degrees: float = 0.0) -> np.ndarray:
    height, width = image.shape[:2]
    return _warp(image, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor))


def _curve(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a tone curve given on [0, 1] through a 256-entry table."""
    table = _to_uint8(255 * np.clip(function(np.arange(256, dtype=np.float32) / 255), 0, 1))
    return cv2.LUT(image, table)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=2)


# --- lens and focus ------------------------------------------------------------------------------------------------


def blur(image: np.ndarray, strength: float) -> np.ndarray:
    return _blur(image, (0.006 + 0.022 * strength) * _short_side(image))


def shallow_focus(image: np.ndarray, strength: float) -> np.ndarray:
    mask = np.clip((_radius(image) - 0.35) / 0.35, 0, 1)
    return _mix(image, _blur(image, (0.012 + 0.03 * strength) * _short_side(image)), mask)


def motion_blur(image: np.ndarray, strength: float) -> np.ndarray:
    length = max(3, int((0.05 + 0.11 * strength) * _short_side(image)) | 1)
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def vignette(image: np.ndarray, strength: float) -> np.ndarray:
    return _mix(image, np.zeros_like(image), (0.5 + 0.45 * strength) * np.clip(_radius(image) - 0.3, 0, 0.9) / 0.9)


def chromatic_aberration(image: np.ndarray, strength: float) -> np.ndarray:
    shift = 0.012 + 0.028 * strength
    red, blue = _zoom(image, 1 + shift)[..., 0], _zoom(image, 1 - shift)[..., 2]
    return np.stack([red, image[..., 1], blue], axis=-1)


def lens_flare(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    glow = np.zeros((height, width), np.float32)
    for centre_x, centre_y, size, weight in ((0.2, 0.15, 0.16, 1.0), (0.45, 0.42, 0.05, 0.45), (0.7, 0.7, 0.09, 0.4)):
        distance = np.hypot(y - centre_y * height, x - centre_x * width) / _short_side(image)
        glow += weight * np.exp(-((distance / size) ** 2))
    colour = np.array([255, 232, 190], np.float32)
    return _to_uint8(image + (0.7 + 0.5 * strength) * glow[..., None] * colour)


def barrel_distortion(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scale = (1 + (0.18 + 0.32 * strength) * (_radius(image)[..., 0] ** 2 - 0.5)).astype(np.float32)
    map_x, map_y = (x - width / 2) * scale + width / 2, (y - height / 2) * scale + height / 2
    return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def soft_glow(image: np.ndarray, strength: float) -> np.ndarray:
    bloom = _blur(image, 0.04 * _short_side(image)).astype(np.float32)
    screen = 255 - (255 - image.astype(np.float32)) * (255 - bloom) / 255
    return _mix(image, screen, 0.5 + 0.4 * strength)


# --- tone and colour -----------------------------------------------------------------------------------------------


def high_contrast(image: np.ndarray, strength: float) -> np.ndarray:
    return _curve(image, lambda t: 0.5 + (1.5 + 1.2 * strength) * (t - 0.5))


def low_contrast(image: np.ndarray, strength: float) -> np.ndarray:
    return _curve(image, lambda t: 0.5 + (0.6 - 0.35 * strength) * (t - 0.5))


def saturate(image: np.ndarray, strength: float) -> np.ndarray:
    grey = _grey(image).astype(np.float32)
    return _to_uint8(grey + (1.8 + 1.4 * strength) * (image - grey))


def desaturate(image: np.ndarray, strength: float) -> np.ndarray:
    return _mix(image, _grey(image), 0.5 + 0.3 * strength)


def monochrome(image: np.ndarray, strength: float) -> np.ndarray:
    return _mix(image, _grey(image), 0.95 + 0.05 * strength)


def sepia(image: np.ndarray, strength: float) -> np.ndarray:
    return _mix(image, _grey(image) * np.array([1.08, 0.88, 0.64], np.float32), 0.8 + 0.2 * strength)


def warm(image: np.ndarray, strength: float) -> np.ndarray:
    return _to_uint8(image * (1 + (0.16 + 0.2 * strength) * np.array([1, 0.15, -1], np.float32)))


def cool(image: np.ndarray, strength: float) -> np.ndarray:
    return _to_uint8(image * (1 + (0.16 + 0.2 * strength) * np.array([-1, 0, 1], np.float32)))


def brighten(image: np.ndarray, strength: float) -> np.ndarray:
    return _curve(image, lambda t: t ** (0.6 - 0.25 * strength) * 0.85 + 0.15)


def darken(image: np.ndarray, strength: float) -> np.ndarray:
    return _curve(image, lambda t: t ** (1.8 + 0.9 * strength) * 0.9)


def blow_highlights(image: np.ndarray, strength: float) -> np.ndarray:
    return _curve(image, lambda t: t * (1.5 + 0.7 * strength))


def crush_shadows(image: np.ndarray, strength: float) -> np.ndarray:
    floor = 0.22 + 0.18 * strength
    return _curve(image, lambda t: (t - floor) / (1 - floor))


def split_tone(image: np.ndarray, strength: float) -> np.ndarray:
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 255
    teal, orange = np.array([-50, 15, 45], np.float32), np.array([50, 12, -50], np.float32)
    return _to_uint8(image + (0.6 + 0.6 * strength) * (teal * (1 - light) + orange * light))


def haze(image: np.ndarray, strength: float) -> np.ndarray:
    return _mix(image, np.full_like(image, 205), 0.4 + 0.28 * strength)


def light_leak(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    ramp = np.clip(1 - np.arange(width, dtype=np.float32) / (0.55 * width), 0, 1)[None, :, None] ** 1.5
    return _to_uint8(image + (0.7 + 0.4 * strength) * ramp * np.array([255, 110, 30], np.float32))


# --- texture and processing ----------------------------------------------------------------------------------------


def film_grain(image: np.ndarray, strength: float) -> np.ndarray:
    return _to_uint8(image + (14 + 22 * strength) * _noise(image, 1))


def colour_noise(image: np.ndarray, strength: float) -> np.ndarray:
    noise = _noise(image, 3)
    return _to_uint8(image + (20 + 26 * strength) * (noise - noise.mean(axis=2, keepdims=True)))


def sharpening_halos(image: np.ndarray, strength: float) -> np.ndarray:
    base = image.astype(np.float32)
    return _to_uint8(base + (1.8 + 1.7 * strength) * (base - _blur(base, 0.012 * _short_side(image))))


def plastic_smoothing(image: np.ndarray, strength: float) -> np.ndarray:
    diameter = max(5, int(0.05 * _short_side(image)) | 1)
    smooth = image
    for _ in range(2):  # two light passes flatten texture and keep edges better than one heavy pass
        smooth = cv2.bilateralFilter(smooth, min(diameter, 15), 35 + 45 * strength, 0.03 * _short_side(image))
    return smooth


def banding(image: np.ndarray, strength: float) -> np.ndarray:
    levels = 6 - 2.5 * strength
    return _curve(image, lambda t: np.round(t * levels) / levels)


def compression_blocks(image: np.ndarray, strength: float) -> np.ndarray:
    small = _short_side(image) / 160
    height, width = image.shape[:2]
    work = image if small < 1.3 else cv2.resize(image, (round(width / small), round(height / small)), interpolation=3)
    quality = int(16 - 11 * strength)
    output = recompress(work, ".jpg", quality)
    return output if output.shape == image.shape else cv2.resize(output, (width, height), interpolation=cv2.INTER_LINEAR)


def checkerboard(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    cell = max(1, round(_short_side(image) / 100))
    y, x = np.ogrid[:height, :width]
    sign = (((y // cell) + (x // cell)) % 2 * 2 - 1).astype(np.float32)[..., None]
    return _to_uint8(image + (9 + 15 * strength) * sign)


def pixelate(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    cells = max(2, int(44 - 22 * strength))
    factor = cells / _short_side(image)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (width, height), interpolation=0)


def halftone(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    period = 0.032 * _short_side(image)
    y, x = np.ogrid[:height, :width]
    dots = (np.sin(2 * np.pi * y / period) * np.sin(2 * np.pi * x / period)).astype(np.float32)[..., None]
    return _to_uint8(image + (45 + 45 * strength) * dots)


def scratches(image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    generator = np.random.default_rng(height * 65_537 + width)
    overlay = np.zeros((height, width), np.uint8)
    thickness = max(1, round(_short_side(image) / 160))
    for _ in range(8 + int(10 * strength)):
        start = int(generator.integers(width)), int(generator.integers(height))
        end = start[0] + int(generator.normal(0, 0.03 * width)), start[1] + int(generator.normal(0, 0.4 * height))
        cv2.line(overlay, start, end, 255, thickness, cv2.LINE_AA)
    return _mix(image, np.full_like(image, 245), 0.9 * overlay[..., None].astype(np.float32) / 255)


def ghosting(image: np.ndarray, strength: float) -> np.ndarray:
    shift = (0.05 + 0.05 * strength) * _short_side(image)
    return _mix(image, _warp(image, np.array([[1, 0, shift], [0, 1, shift / 3]], np.float32)), 0.5)


# --- composition ---------------------------------------------------------------------------------------------------


def tilt(image: np.ndarray, strength: float) -> np.ndarray:
    degrees = 12 + 18 * strength
    return _zoom(image, 1.25 + 0.2 * strength, degrees)


def close_up(image: np.ndarray, strength: float) -> np.ndarray:
    return _zoom(image, 2.0 + 1.2 * strength)


def mirror_symmetry(image: np.ndarray, strength: float) -> np.ndarray:
    half = image[:, : (image.shape[1] + 1) // 2]
    return np.concatenate([half, half[:, : image.shape[1] // 2][:, ::-1]], axis=1)


# Concept → the operation that induces its positive pole, and the one for its negative pole where there is one.
OPERATIONS: dict[str, tuple[Operation, Operation | None]] = {
    "blur": (blur, None),
    "shallow depth of field": (shallow_focus, None),
    "motion blur": (motion_blur, None),
    "vignetting": (vignette, None),
    "chromatic aberration": (chromatic_aberration, None),
    "lens flare": (lens_flare, None),
    "barrel distortion": (barrel_distortion, None),
    "soft glow": (soft_glow, None),
    "contrast": (high_contrast, low_contrast),
    "saturation": (saturate, desaturate),
    "monochrome": (monochrome, saturate),
    "sepia": (sepia, None),
    "warmth": (warm, cool),
    "brightness": (brighten, darken),
    "blown highlights": (blow_highlights, None),
    "crushed shadows": (crush_shadows, None),
    "split toning": (split_tone, None),
    "haze": (haze, None),
    "light leak": (light_leak, None),
    "film grain": (film_grain, None),
    "colour noise": (colour_noise, None),
    "sharpening halos": (sharpening_halos, None),
    "plastic smoothing": (plastic_smoothing, None),
    "banding": (banding, None),
    "compression blocks": (compression_blocks, None),
    "checkerboard": (checkerboard, None),
    "pixelation": (pixelate, None),
    "halftone": (halftone, None),
    "scratches": (scratches, None),
    "ghosting": (ghosting, None),
    "tilted horizon": (tilt, None),
    "close-up": (close_up, None),
    "mirror symmetry": (mirror_symmetry, None),
}

ATTRIBUTES: tuple[Attribute, ...] = tuple(
    Attribute(concept, *OPERATIONS[concept.operation]) for concept in vocabulary() if concept.operation
)
