"""Shared by all tests: no network, few threads, images made here, a suite loaded once."""

import os
import tempfile

HOME = tempfile.TemporaryDirectory()  # no test reads or writes the heads that the user has made
os.environ["CUESCOPE_HOME"] = HOME.name
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("MPLBACKEND", "Agg")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """scikit-learn's two photographs, shorter side 256, RGB uint8."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return [cv2.resize(image, None, fx=256 / 427, fy=256 / 427, interpolation=cv2.INTER_AREA) for image in images]


@pytest.fixture(scope="session")
def suite():
    from detector import Suite

    return Suite.load()


@pytest.fixture(scope="session")
def picture(tmp_path_factory, photographs) -> str:
    """A JPEG file of a photograph."""
    path = tmp_path_factory.mktemp("pictures") / "temple.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(photographs[0], cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return str(path)
