"""detector/clip/decoding.py: logits and captions of the whole forward at every step, from work that grows with the tokens alone."""

import cv2
import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.assets import MODELS
from detector.clip.backbone import Backbone
from detector.clip.captioning import MAX_TOKENS, MIN_TOKENS, image_tokens, write
from detector.clip.decoding import Decoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def embedded():
    return Backbone.load()


@pytest.fixture(scope="module")
def fifty(photographs) -> list[np.ndarray]:
    """Squares of photographs, of the drawn pictures beside the heads, and of their negatives, at random places and scales."""
    drawn = [cv2.imread(str(path))[..., ::-1] for path in sorted((MODELS / "embedded/heads/pictures").glob("*.png"))]
    generator, pictures = np.random.default_rng(0), [*photographs, *drawn]
    squares = []
    for number in range(50):
        pixels = pictures[number % len(pictures)]
        side = int(generator.integers(64, min(pixels.shape[:2]) + 1))
        y, x = (int(generator.integers(length - side + 1)) for length in pixels.shape[:2])
        square = pixels[y : y + side, x : x + side]
        squares.append(np.ascontiguousarray(255 - square if number % 3 == 0 else square))
    return squares


@torch.inference_mode()
def whole_forward(backbone: Backbone, tokens: torch.Tensor) -> list[str]:
    """Greedy captions, each token from open_clip's own forward over all tokens so far."""
    tool, rows = backbone.tokenizer, torch.full((len(tokens), 1), backbone.tokenizer.sot_token_id)
    for length in range(MAX_TOKENS):
        logits = backbone.model.text_decoder(tokens, backbone.model._encode_text(rows)[1])[:, -1]
        logits[:, tool.sot_token_id] = -torch.inf
        if length < MIN_TOKENS:
            logits[:, tool.eot_token_id] = -torch.inf
        rows = torch.cat([rows, logits.argmax(1, keepdim=True)], dim=1)
    return [tool.decode([*row, tool.eot_token_id][1 : [*row, tool.eot_token_id].index(tool.eot_token_id)]) for row in rows.tolist()]


def test_fifty_captions_are_those_of_the_whole_forward(embedded, fifty):
    images = torch.stack([embedded.prepare(pixels) for pixels in fifty])
    tokens = image_tokens(embedded, images, embedded.encode(images))
    captions = write(embedded, tokens)
    assert [text.replace(" ", "") for text in captions] == [text.replace(" ", "") for text in whole_forward(embedded, tokens)]
    assert len(set(captions)) > 20


@pytest.mark.parametrize("correct_cls_mask", [False, True])
@pytest.mark.parametrize("kind", ["tiny", "embedded"])
def test_logits_are_those_of_the_whole_forward_at_every_step(kind, correct_cls_mask, request, monkeypatch):
    """Random tokens, "!" among them: it has the number of the padding, which the text tower masks."""
    backbone = request.getfixturevalue(kind)
    monkeypatch.setattr(backbone.model.text, "correct_cls_mask", correct_cls_mask)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 9, backbone.model.visual.conv1.out_channels, generator=generator)
    texts = torch.randint(1, 500, (4, 12), generator=generator)
    texts[0, 3:5] = texts[1, 6] = texts[2, 11] = 0
    with torch.inference_mode():
        decoder = Decoder(backbone.model, tokens)
        stepwise = torch.stack([decoder.step(texts[:, length]) for length in range(12)], dim=1)
        expected = backbone.model.text_decoder(tokens, backbone.model._encode_text(texts)[1])
    torch.testing.assert_close(stepwise, expected, rtol=1e-3, atol=1e-3)


def test_captions_that_have_ended_leave_the_batch(tiny):
    tokens, rows = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([True, False, True])
    with torch.inference_mode():
        together, alone = Decoder(tiny.model, tokens), Decoder(tiny.model, tokens[rows])
        for decoder, first in ((together, torch.tensor([5, 6, 7])), (alone, torch.tensor([5, 7]))):
            decoder.step(first)
        together.keep(rows)
        torch.testing.assert_close(together.step(torch.tensor([8, 0])), alone.step(torch.tensor([8, 0])))


def test_each_token_passes_each_block_once(embedded, photographs):
    images = torch.stack([embedded.prepare(pixels) for pixels in photographs[:1]])
    tokens, seen = image_tokens(embedded, images, embedded.encode(images)), []
    blocks = (embedded.model.text.transformer.resblocks[0], embedded.model.text_decoder.cross_attn[0])
    hooks = [block.mlp.register_forward_hook(lambda _, inputs, output: seen.append(output.shape[1])) for block in blocks]
    write(embedded, tokens)
    for hook in hooks:
        hook.remove()
    assert sum(seen) <= 2 * MAX_TOKENS
