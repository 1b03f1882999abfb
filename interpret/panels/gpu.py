"""Hugging Face's ZeroGPU, and nothing else: a GPU lent for seconds to a worker process, by the package `spaces`.

Everywhere else the package is absent or does nothing, and so does this module. On ZeroGPU the page itself stays on the
processor, as only the worker may touch CUDA; there the forward of the vision tower goes to the worker, tensors in, tensors out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from detector.clip.backbone import Backbone, ClipFeatures

SECONDS = 60  # a worker's first call loads the weights; what is not used is not counted against the visitor's quota


def on_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space; Hugging Face sets the variable."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def run_on_gpu(function: Callable) -> Callable:
    """The function, run where ZeroGPU lends a GPU; unchanged where the package `spaces` is absent."""
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=SECONDS)(function)


def page_device() -> str | None:
    """The device for the suites of the page: the processor on ZeroGPU, else None, the best there is."""
    return "cpu" if on_zero_gpu() else None


@lru_cache(maxsize=3)
def _in_worker(name: str) -> Backbone:
    """The worker's own copy: it was forked before visitors chose a model, and shares no memory with the page since."""
    from detector.clip.backbone import Backbone

    return Backbone.load(name)


@run_on_gpu
def forward(name: str, images: Tensor, tokens: bool = True) -> ClipFeatures:
    """CLIP features, on the processor, of images (B, 3, S, S) as `Backbone.prepare` gives them; tokens: as for `Backbone.encode`."""
    return _in_worker(name).encode(images, tokens)


def lend(backbone: Backbone) -> None:
    """On ZeroGPU, let this backbone's image forward run in the worker."""
    if on_zero_gpu():
        setattr(backbone, "encode", partial(forward, backbone.name))  # noqa: B010 (a type checker refuses to replace a method)
