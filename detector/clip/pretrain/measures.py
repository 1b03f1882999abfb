"""How good the model is: retrieval, zero-shot classes, attributes, and the decoder's loss on validation captions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.attributes import ATTRIBUTES
from detector.clip.pretrain.data import EDITS, Pairs
from detector.clip.pretrain.losses import caption_loss, normalise_pixels
from detector.clip.pretrain.model import CaptionModel


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    scale = size / min(image.shape[:2])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    y, x = (height - size) // 2, (width - size) // 2
    return image[y : y + size, x : x + size]


def subject_pixels(subject: CaptionModel, images: np.ndarray) -> Tensor:
    """(B, S, S, 3) uint8 → (B, 3, S, S) float32 in CLIP's normalised units, on the model's device."""
    return normalise_pixels(images, subject.preprocess).to(subject.device)


@torch.no_grad()
def embed_images(subject: CaptionModel, images: list[np.ndarray]) -> Tensor:
    """(N, D) unit rows, in chunks of 256."""
    squares = [centre_square(image, subject.size) for image in images]
    chunks = [np.stack(squares[i : i + 256]) for i in range(0, len(squares), 256)]
    return torch.cat([subject.model.encode_image(subject_pixels(subject, chunk)).cpu() for chunk in chunks])


@torch.no_grad()
def embed_texts(subject: CaptionModel, texts: list[str]) -> Tensor:
    """(N, D) unit rows, in chunks of 256."""
    chunks = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    return torch.cat([subject.model.encode_text(subject.tokenizer(chunk).to(subject.device)).cpu() for chunk in chunks])


def recall_at(image: Tensor, text: Tensor, owner: Tensor, k: int = 10) -> float:
    """Share of images that find one of their own texts among the `k` nearest. owner: (T,) image index of each text."""
    nearest = (image @ text.T).topk(min(k, len(text)), dim=1).indices
    return (owner[nearest] == torch.arange(len(image))[:, None]).any(1).float().mean().item()


def zero_shot(image: Tensor, captions: list[str], prompt_embeddings: dict[str, Tensor]) -> float:
    """Share of images whose own class sentence is the nearest of all class sentences of that source."""
    names = sorted(prompt_embeddings)
    predicted = (image @ torch.stack([prompt_embeddings[name] for name in names]).T).argmax(1)
    return float(np.mean([names[p] == truth for p, truth in zip(predicted.tolist(), captions, strict=True)]))


def attribute_rise(subject: CaptionModel, images: list[np.ndarray]) -> dict[str, float]:
    """For each operation the share of `images` in which its concept's activation moves the right way at strength 0.5."""
    prompts = [prompt for attribute in ATTRIBUTES for prompt in attribute.prompts]
    poles = embed_texts(subject, prompts).view(len(ATTRIBUTES), 2, -1)
    directions = F.normalize(poles[:, 0] - poles[:, 1], dim=1)
    clean = embed_images(subject, images)
    rises = {}
    for index, pole, operation in EDITS:
        edited = embed_images(subject, [operation(image, 0.5) for image in images])
        moved = pole * (edited - clean) @ directions[index] > 0
        rises[f"{ATTRIBUTES[index].concept.name} {'+' if pole > 0 else '−'}"] = moved.float().mean().item()
    return rises


def measure(subject: CaptionModel, pairs: Pairs, attributes: int = 0) -> dict[str, Any]:
    """Retrieval on Flickr8k, zero-shot on two class sets, and, on so many photographs, the attribute operations."""
    subject.model.eval()
    of = {name: [i for i, s in enumerate(pairs.sources) if s == name] for name in set(pairs.sources)}
    image = embed_images(subject, pairs.images)
    flickr = of.get("flickr8k", [])
    texts = [(position, text) for position, i in enumerate(flickr) for text in pairs.captions[i]]
    result: dict[str, Any] = {}
    if texts:
        embedded = embed_texts(subject, [text for _, text in texts])
        owner = torch.tensor([position for position, _ in texts])
        result["flickr8k_r10"] = recall_at(image[flickr], embedded, owner)
    for source in ("imagenette", "intel_scenes"):
        captions = [pairs.captions[i][0] for i in of.get(source, [])]
        if captions:
            names = sorted(set(captions))
            prompts = dict(zip(names, embed_texts(subject, names), strict=True))
            result[f"{source}_zero_shot"] = zero_shot(image[of[source]], captions, prompts)
    if attributes and flickr:
        photographs = [pairs.images[i] for i in flickr[:attributes]]
        result["attribute_rise"] = attribute_rise(subject, photographs)
    return result


@torch.no_grad()
def patch_features(subject: CaptionModel, images: np.ndarray) -> Tensor:
    """(B, S, S, 3) uint8 → (B, N, D) patch tokens that the caption decoder reads."""
    return subject.model._encode_image(subject_pixels(subject, images))[1]


@torch.no_grad()
def caption_validation(subject: CaptionModel, pairs: Pairs) -> float:
    """Mean cross-entropy of the next token, nats, of the first caption of at most 256 images: of Flickr8k where there are any."""
    flickr = [i for i, source in enumerate(pairs.sources) if source == "flickr8k"]
    rows = (flickr or list(range(len(pairs.sources))))[:256]
    images = np.stack([centre_square(pairs.images[i], subject.size) for i in rows])
    return caption_loss(subject, patch_features(subject, images), [pairs.captions[i][0] for i in rows]).item()
