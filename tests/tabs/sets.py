"""Sets of pictures whose difference is known."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np


def pictures(count: int, seed: int = 0, side: int = 96) -> list[np.ndarray]:
    """Smooth random pictures, RGB uint8."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC) for pixels in coarse]


def jpeg(pixels: np.ndarray, quality: int = 85) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """A zip archive of files by name."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    path.write_bytes(memory.getvalue())
    return path


def two_archives(folder: Path, each: int, qualities: tuple[int, int] = (85, 85), blurred: bool = False) -> tuple[Path, Path]:
    """Archives of real and synthetic pictures of one kind, saved with different qualities, the latter blurred or not."""
    paths = []
    for label, name in enumerate(("real", "synthetic")):
        images = pictures(each, seed=label)
        if blurred and label:
            images = [pixels // 3 + np.uint8(150) for pixels in images]
        data = {f"{name}/{i}.jpg": jpeg(pixels, qualities[label]) for i, pixels in enumerate(images)}
        paths.append(archive(folder / f"{name}.zip", data))
    return paths[0], paths[1]
