"""The documented name of `detector.methods.published`: `detector.published.load(name) -> head`, with `head.logits(features)`."""

from detector.methods.published import *  # noqa: F403
from detector.methods.published import __all__  # noqa: F401
