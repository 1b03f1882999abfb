"""One sentence for an image: from a CoCa's decoder, from a list of nouns, or from the user.

A backbone's own decoder writes, or that of a CoCa which the user chose; for a backbone from the hub without a decoder the embedded model's.
A local folder without a decoder stands alone and gets nouns.

Nothing but pixels and the user's words goes in: no file name, no metadata, no generator's prompt, no label (docs/methods.md, 3).
The decoder is greedy, so the same image gets the same caption.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.assets import EMBEDDED
from detector.clip.backbone import Backbone, BackboneError, ClipFeatures, model_config, require_known
from detector.clip.decoding import Decoder
from detector.clip.stored_texts import encode_fixed
from detector.clip.vocabulary import CONCEPTS
from detector.hub.download import Progress
from detector.steps import checkpoint

NOUNS = CONCEPTS.with_name("nouns.txt")
MAX_TOKENS = 20  # tokens that the decoder may write
MIN_TOKENS = 5  # tokens before which the decoder may not end, as in the released generation code's minimum length
MAX_CHARACTERS = 10_000  # characters of a user's caption; the rest is cut off
NOUN_COUNT = 5  # nouns that stand in for a sentence where there is no decoder


@dataclass(frozen=True)
class Caption:
    """text: the words, or "" where there are none worth reading. source: "user", the name of the CoCa that wrote them, or "nouns"."""

    text: str
    source: str


@lru_cache(maxsize=1)
def nouns() -> tuple[tuple[str, ...], ...]:
    """The noun list: (singular, plural), or (noun,) for those without another form."""
    lines = NOUNS.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split(",")) for line in lines if line.strip())


# --- the user's words ----------------------------------------------------------------------------------------------


def user_caption(text: str) -> Caption:
    """The user's words on one line, in any alphabet, without control characters; "" where there is neither a letter nor a digit.
    The tokenizer truncates what is too long for CLIP."""
    printable = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[:MAX_CHARACTERS])
    return Caption(" ".join(printable.split()) if re.search(r"[^\W_]", printable) else "", "user")


def is_usable(text: str) -> bool:
    """Whether a caption says anything: it has at least two words with letters, and more than a third of its words are distinct."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) >= 2 and len(set(words)) > len(words) / 3


def is_truncated(backbone: Backbone, text: str) -> bool:
    """Whether the text is longer than the text tower reads: its context less the two markers."""
    return len(backbone.tokenizer.encode(text)) > backbone.model.context_length - 2


# --- the decoder's words -------------------------------------------------------------------------------------------


def has_decoder(backbone: Backbone) -> bool:
    """Whether the backbone is a CoCa."""
    return hasattr(backbone.model, "text_decoder")


def load_captioner(name: str, device: str | None = None, progress: Progress | None = None) -> Backbone:
    """The CoCa of a name, "embedded" or MODEL/TAG, which is downloaded where it is not here. BackboneError, one sentence, where it cannot
    be had or writes no captions. progress: as for `Backbone.load`."""
    if name != EMBEDDED and "multimodal_cfg" not in model_config(name):
        require_known(name)
        raise BackboneError(f"'{name}' writes no captions; choose '{EMBEDDED}' or a CoCa such as coca_ViT-B-32/laion2b_s13b_b90k.")
    return Backbone.load(name, device, progress)


@lru_cache(maxsize=2)
def _embedded(device: str) -> Backbone:
    return Backbone.load(EMBEDDED, device)


def writer_of(backbone: Backbone) -> Backbone | None:
    """The CoCa that writes captions for a backbone; None for a local folder without a decoder, whose captions are nouns."""
    if backbone.captioner is not None and backbone.captioner.fingerprint != backbone.fingerprint:
        return backbone.captioner
    if has_decoder(backbone):
        return backbone
    return None if Path(backbone.name).is_dir() else _embedded(str(backbone.device))


def captioner(backbone: Backbone) -> str:
    """Identity of what writes captions: sixteen hex digits of the decoder's weights, or "nouns" and sixteen of the noun list."""
    digest, writer = hashlib.sha256(NOUNS.read_bytes()), writer_of(backbone)
    if writer is None:
        return f"nouns {digest.hexdigest()[:16]}"
    for parameter in writer.model.text_decoder.parameters():
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def image_tokens(backbone: Backbone, images: Tensor, features: ClipFeatures | None = None) -> Tensor:
    """(B, N, D) what the decoder attends to. With CLS pooling these are the patch tokens of `features` (None: computed here) after the
    final layer norm; a CoCa with an attentional pooler needs another forward."""
    visual = backbone.model.visual
    if getattr(visual, "attn_pool", None) is None:
        features = features or backbone.encode(images)
        if features.patches is not None:
            return visual.ln_post(features.patches.to(backbone.device))
    return backbone.model._encode_image(images.to(backbone.device))[1]


@torch.inference_mode()
def write(backbone: Backbone, tokens: Tensor) -> list[str]:
    """Greedy captions for (B, N, D) image tokens: at most MAX_TOKENS tokens and at least MIN_TOKENS."""
    model, tokenizer = backbone.model, backbone.tokenizer
    start, end, max_tokens = tokenizer.sot_token_id, tokenizer.eot_token_id, min(MAX_TOKENS, backbone.model.context_length - 2)
    written = torch.full((len(tokens), 1 + max_tokens), end, device=tokens.device)
    written[:, 0], active, decoder = start, torch.arange(len(tokens), device=tokens.device), Decoder(model, tokens)
    for length in range(max_tokens):
        checkpoint()
        logits = decoder.step(written[active, length])  # (active, vocabulary)
        logits[:, start] = -torch.inf
        if length < MIN_TOKENS:
            logits[:, end] = -torch.inf
        token = logits.argmax(1)
        written[active, length + 1] = token
        if (token == end).any():
            active = active[token != end]
            decoder.keep(token != end)
        if not len(active):
            break
    return [_sentence(tokenizer, row.tolist(), end) for row in written]


def _sentence(tokenizer, row: list[int], end: int) -> str:
    """The words between the markers, no space before punctuation."""
    inside = row[1 : row.index(end)] if end in row else row[1:]
    return re.sub(r"\s+([.,!?;:])", r"\1", tokenizer.decode(inside)).strip()


def noun_embeddings(backbone: Backbone) -> Tensor:
    """(N, E) unit rows of "a photo of a NOUN", for all nouns in their singular."""
    return encode_fixed(backbone, "nouns", [f"a photo of a {forms[0]}" for forms in nouns()])


@torch.inference_mode()
def retrieve(backbone: Backbone, projected: Tensor) -> list[str]:
    """For a CLIP without a decoder: the nouns nearest to each image, (B, E) in, joined to a line."""
    singular = [forms[0] for forms in nouns()]
    best = (F.normalize(projected, dim=1) @ noun_embeddings(backbone).T).topk(NOUN_COUNT, dim=1).indices
    return [", ".join(singular[i] for i in row) for row in best.tolist()]


def caption(backbone: Backbone, pixels: Sequence[np.ndarray], images: Tensor, features: ClipFeatures) -> list[Caption]:
    """A caption for each of B images; one that `is_usable` rejects becomes "".

    pixels: (H, W, 3) uint8 each. images, features: the same, prepared (B, 3, S, S) and encoded by the backbone, for its own decoder.
    """
    writer = writer_of(backbone)
    if writer is None:
        texts = retrieve(backbone, features.projected)
    elif writer is backbone:
        texts = write(backbone, image_tokens(backbone, images, features))
    else:
        texts = write(writer, image_tokens(writer, torch.stack([writer.prepare(image) for image in pixels])))
    return [Caption(text if is_usable(text) else "", writer.name if writer else "nouns") for text in texts]
