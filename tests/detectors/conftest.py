"""Two backbones side by side: a tiny one as if it were ViT-L/14-336 from the hub with released heads, and the embedded one."""

from pathlib import Path

import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.hub.catalogue import SOURCES
from detector.methods.concepts.head import ConceptHead
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.published import PublishedHead
from detector.methods.released import Released
from detector.suite import Suite

NAME = "ViT-L-14-336-quickgelu/openai"
POOLED, PROJECTED = 32, 24  # of the tiny backbone


class NarrowHead(PublishedHead):
    """A released head as wide as the tiny backbone's features."""

    def _checked(self, features):
        return features


def narrow(name: str) -> NarrowHead:
    """A released head of random numbers for the tiny backbone."""
    generator, source = torch.Generator().manual_seed(sum(map(ord, name))), SOURCES[name]
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    head = {
        "linear": lambda: LinearProbe(draw(POOLED), draw()),
        "orthogonal": lambda: OrthogonalHead(draw(8, POOLED), draw(8), draw(8), draw()),
        "concept": lambda: ConceptHead(
            torch.nn.functional.normalize(draw(12, PROJECTED), dim=1), draw(12, PROJECTED), draw(12), 3 * draw(12), draw()
        ),
    }[source.method]()
    return NarrowHead(source, True, head)


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> Suite:
    """What `Suite.alone` gives for ViT-L/14-336 with all released heads here, but tiny; with the pixel methods' heads."""
    backbone = Backbone.load(str(write_tiny(Path(tmp_path_factory.mktemp("large")), decoder=False)))
    backbone.name = NAME
    from detector.methods.registry import read_heads
    from detector.verdict.files import read_verdict

    heads, cards = read_heads(backbone)
    assert set(heads) == {"physical", "residual"}
    released = Released({name: narrow(name) for name, source in SOURCES.items() if source.backbone == NAME})
    return Suite(backbone, heads, cards, read_verdict(backbone, {method: card.digest for method, card in cards.items()}), released)


@pytest.fixture(scope="session")
def both(large, suite) -> Suite:
    """ViT-L/14-336 as the choice, the embedded suite beside it."""
    return large.with_beside(suite)
