"""detector/clip/captioning.py: the decoder's greedy loop against open_clip's own forward, users' words, and nothing but pixels in."""

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.clip.captioning import (
    MAX_TOKENS,
    MIN_TOKENS,
    caption,
    captioner,
    has_decoder,
    image_tokens,
    is_truncated,
    is_usable,
    nouns,
    retrieve,
    user_caption,
    write,
)
from detector.data.images import load_photo


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def embedded():
    return Backbone.load()


@pytest.fixture(scope="module")
def images(tiny):
    generator = np.random.default_rng(0)
    return torch.stack([tiny.prepare(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)])


def test_image_tokens_come_from_the_one_forward(tiny, images):
    features = tiny.encode(images)
    with torch.inference_mode():
        expected = tiny.model._encode_image(images)[1]
    torch.testing.assert_close(image_tokens(tiny, images, features), expected, rtol=0, atol=1e-5)


def test_greedy_writing_is_the_textbook_loop(tiny, images):
    """One image at a time, through the model's own forward, argmax by hand."""
    tool, features = tiny.tokenizer, tiny.encode(images)
    for text, image in zip(write(tiny, image_tokens(tiny, images, features)), images, strict=True):
        row = [tool.sot_token_id]
        with torch.inference_mode():
            latent, embs = tiny.model._encode_image(image[None])
            for step in range(min(MAX_TOKENS, 14)):
                out = tiny.model(None, torch.tensor([row]), image_latent=latent, image_embs=embs, output_labels=False)
                logits = out["logits"][0, -1]
                logits[tool.sot_token_id] = -torch.inf
                if step < MIN_TOKENS:
                    logits[tool.eot_token_id] = -torch.inf
                row.append(int(logits.argmax()))
                if row[-1] == tool.eot_token_id:
                    break
        words = [t for t in row[1:] if t != tool.eot_token_id]
        assert text.replace(" ", "") == tool.decode(words).replace(" ", "")


def test_the_same_image_gets_the_same_caption_alone_or_in_a_batch(embedded, photographs):
    prepared = torch.stack([embedded.prepare(p) for p in photographs])
    together = caption(embedded, [], prepared, embedded.encode(prepared))
    alone = caption(embedded, [], prepared[1:], embedded.encode(prepared[1:]))
    assert together[1] == alone[0] and together[0].source == "embedded"


def test_only_pixels_go_in(embedded, photographs, tmp_path):
    """The same pixels under a telling name, with a prompt in the metadata, get the same caption."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a purple elephant, synthetic, label 1")
    told, plain = tmp_path / "synthetic_purple_elephant.png", tmp_path / "x.png"
    Image.fromarray(photographs[0]).save(told, pnginfo=info)
    Image.fromarray(photographs[0]).save(plain)
    texts = []
    for path in (told, plain):
        prepared = embedded.prepare(load_photo(path))[None]
        texts.append(caption(embedded, [], prepared, embedded.encode(prepared))[0].text)
    assert texts[0] == texts[1] and "elephant" not in texts[0]


def test_a_folder_without_a_decoder_gets_nouns_and_a_backbone_from_the_hub_the_embedded_model_s_words(embedded, photographs, tmp_path):
    alone = Backbone.load(str(write_tiny(tmp_path / "alone", decoder=False)))
    pixels, prepared = photographs[0], alone.prepare(photographs[0])[None]
    features = alone.encode(prepared)
    nouns = caption(alone, [pixels], prepared, features)[0]
    assert nouns.source == "nouns" and len(nouns.text.split(", ")) == 5 and nouns.text == retrieve(alone, features.projected)[0]
    alone.name = "ViT-B-32/openai"  # as if it came from the hub
    read = embedded.prepare(pixels)[None]
    (written,), (expected,) = caption(alone, [pixels], prepared, features), caption(embedded, [pixels], read, embedded.encode(read))
    assert written == expected and written.source == "embedded" and captioner(alone) == captioner(embedded)


def test_two_thousand_words_fit_the_text_tower(tiny):
    embedded = tiny.encode_text([user_caption("a dog runs " * 667).text])
    assert embedded.isfinite().all() and embedded.shape == (1, 24)


@pytest.mark.parametrize(
    "text, kept",
    [
        ("  a dog\n on\ta beach ", "a dog on a beach"),
        ("", ""),
        ("a\x00b\u200bc", "a b c"),
        ("туман 夜 🐈", "туман 夜 🐈"),
        ("<b>x</b>", "<b>x</b>"),
        ("... ?", ""),
        ("dog", "dog"),
        ("word " * 2000, " ".join(["word"] * 2000)),
    ],
)
def test_users_words_are_kept_on_one_line(text, kept):
    assert user_caption(text).text == kept and user_caption(text).source == "user"


def test_endless_typing_is_cut():
    assert len(user_caption("x" * 10**6).text) == 10_000


@pytest.mark.parametrize(
    "text, usable",
    [("a dog runs", True), ("", False), ("...", False), ("a a a a a a", False), ("dog", False), ("собака бежит", True), ("1 2 3", False)],
)
def test_nonsense_is_told_from_words(text, usable):
    assert is_usable(text) == usable


def test_a_caption_is_cut_where_another_word_would_not_be_read(tiny):
    for count in range(1, 30):
        text = "dog " * count
        same = torch.equal(tiny.tokenizer([text + "cat"]), tiny.tokenizer([text + "dog"]))
        assert is_truncated(tiny, text + "cat") == same
    assert not is_truncated(tiny, "")


def test_nouns_have_one_or_two_forms():
    found = nouns()
    assert len(found) > 1000 and {len(forms) for forms in found} <= {1, 2} and ("dog", "dogs") in found


def test_decoders_are_known(tiny):
    assert has_decoder(tiny)
