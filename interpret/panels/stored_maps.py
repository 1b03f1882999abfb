"""The maps that a session looks at: made once for an image, kept in the store, and made again when they are asked for later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from interpret.panels.service import CurrentImage, from_store, photo_of, suite_of
from interpret.render.cards import both
from interpret.render.text import speaker

if TYPE_CHECKING:
    from detector.data.windows import Box
    from interpret.attribution.explain import Explanation

STORED_SIDE = 512  # pixels that the store keeps of the longer side of the picture and of each map


@dataclass(frozen=True)
class MapKey:
    """Which maps a session looks at. key: of the image that they belong to. window_limit: windows read at most."""

    key: str
    window_limit: int


@dataclass(frozen=True)
class StoredMaps:
    """One image's maps in the store. explanation: shrunk to `STORED_SIDE`. The rest was measured at full size.

    rows: layer → table. focus: layer → the window that is checked, in the picture that was read. reading: what was read, in words.
    """

    explanation: Explanation = field(repr=False)
    rows: dict[str, list[list[str]]]
    focus: dict[str, Box]
    reading: str


def stored_maps(current: CurrentImage, maps: MapKey, progress: Callable = lambda share, desc: None) -> StoredMaps:
    """All maps of the image, from the store or made now. ExplainError where the backbone has none."""
    return from_store(current, maps, lambda: _make_maps(current, maps.window_limit, progress))


def _make_maps(current: CurrentImage, window_limit: int, progress: Callable) -> StoredMaps:
    from interpret.attribution import explain

    def show(done: int, total: int) -> None:
        progress(done / total, desc="windows")

    explanation = explain.explain(suite_of(current), photo_of(current), window_limit=window_limit, progress=show)
    words = f"{explain.pooling(explanation, current.record)} {speaker(current.record, 'sdd')}"
    reading = both("Read window by window. Orange speaks for synthetic, blue for real.", words)
    return StoredMaps(
        explain.shrink(explanation, STORED_SIDE),
        {name: explain.rows(explanation, name) for name in explanation.maps},
        {name: explain.focus(explanation, name) for name in explanation.maps},
        reading,
    )


def maps_of(current: CurrentImage | None, maps: MapKey | None) -> StoredMaps | None:
    """The maps that the session looks at, if they are of the image analysed last: a client may have analysed another one since."""
    return stored_maps(current, maps) if current is not None and maps is not None and maps.key == current.key else None


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8, reduced to `side` pixels on the longer side where it is larger."""
    import cv2

    factor = side / max(pixels.shape[:2])
    return pixels if factor >= 1 else cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
