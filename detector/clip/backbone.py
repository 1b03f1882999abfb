"""A frozen CLIP with both towers, made by open_clip: one forward of an image serves every method.

Names: `embedded` (the small model that ships with the project), `MODEL/TAG` (open_clip downloads it from the hub, on the
user's choice only) or a local folder with `open_clip_config.json` and `open_clip_model.safetensors`.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from detector.assets import EMBEDDED, MODELS
from detector.clip.tokenizer import FULL_VOCABULARY, simple_tokenizer
from detector.data.images import Photo
from detector.devices import has_bfloat16
from detector.hub.backbones import fetch_weights, find_weights
from detector.hub.download import Progress, PublishedError
from detector.hub.weights import WeightsError, check_finite, read_weights
from detector.hub.weights import fingerprint as weights_fingerprint
from detector.steps import checkpoint

if TYPE_CHECKING:  # slow to import
    from open_clip.tokenizer import SimpleTokenizer
    from torchvision.transforms import Compose

VERSION = "clip-1"  # of what `prepare` and `encode` make beside the weights; part of the key of cached features
WEIGHTS_FILE = "open_clip_model.safetensors"  # of a backbone's folder, as open_clip names it
TEXT_CACHE = 20_000  # texts; about 20 MB at 256 numbers each
MAX_CACHED_LENGTH = 500  # characters of a text that is cached: captions that users type may have 10,000
TEXT_BATCH = 32  # texts in a batch: a large text tower needs seconds for them, and between batches it can be stopped
LARGE_MODEL = 100_000_000  # parameters; below it reduced precision saves too little to be worth any difference


OpenClip = Any  # open_clip's towers: their attributes differ from class to class


class BackboneError(RuntimeError):
    """One sentence that says why a backbone cannot be used."""


@dataclass(frozen=True)
class ClipFeatures:
    """What one forward of the vision tower gives for B images, float32 on the CPU. The last two are None without `tokens`.

    pooled: (B, D) after the final layer norm, before the projection. projected: (B, E), not normalised.
    patches: (B, N, D) last block's patch tokens before the final layer norm, or None where the tower has none.
    previous: (B, 1 + N, D) what enters the last block: the block before's class token and patch tokens, no norm applied;
    the last block's value path reads it (docs/methods.md, 3). None where the tower has no such block.
    """

    pooled: Tensor
    projected: Tensor
    patches: Tensor | None
    previous: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def to(self, device: torch.device) -> ClipFeatures:
        """The same on another device, to train on."""
        patches, previous = (None if part is None else part.to(device) for part in (self.patches, self.previous))
        return ClipFeatures(self.pooled.to(device), self.projected.to(device), patches, previous)


@dataclass(frozen=True)
class Sizes:
    """Lengths of a backbone's features. pooled: D, before the projection. projected: E, after it."""

    pooled: int
    projected: int


@dataclass(frozen=True)
class ScoredView:
    """The pixels that the vision tower reads, (S, S, 3) uint8, and their box in the photo: x0, y0, x1, y1."""

    pixels: np.ndarray
    box: tuple[int, int, int, int]


@lru_cache(maxsize=1)
def bfloat16_is_faster() -> bool:
    """Whether this processor multiplies bfloat16 matrices clearly faster than float32 ones: measured once, about 10 ms."""

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(256, 256, dtype=dtype)
        matrix @ matrix
        start = time.perf_counter()
        for _ in range(3):
            matrix @ matrix
        return time.perf_counter() - start

    return seconds(torch.bfloat16) * 1.3 < seconds(torch.float32)


def choose_device(device: str | None = None) -> torch.device:
    """The named device, else CUDA where there is one, else the CPU. BackboneError if the device cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.zeros(1, device=target).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackboneError(f"The device '{device}' cannot be used here; leave --device out or use 'cpu'.") from error
    return target


def choose_precision(parameters: int, device: torch.device) -> torch.dtype:
    """float32 for small models; for large ones bfloat16 on CUDA that has it and on a CPU where it is faster."""
    if parameters < LARGE_MODEL:
        return torch.float32
    faster = has_bfloat16(device) or (device.type == "cpu" and bfloat16_is_faster())
    return torch.bfloat16 if faster else torch.float32


def _folder(name: str) -> Path | None:
    """The folder of a backbone that lies on this machine; None for one that open_clip would download."""
    folder = MODELS / EMBEDDED if name == EMBEDDED else Path(name)
    return folder if (folder / "open_clip_config.json").is_file() else None


def require_known(name: str) -> None:
    """Raise BackboneError, one sentence, if `name` is neither on this machine nor in open_clip's list. Loads no weights."""
    import open_clip

    if folder := _folder(name):
        if not (folder / WEIGHTS_FILE).is_file():
            raise BackboneError(f"The backbone '{name}' has no {WEIGHTS_FILE}; train it with `pretrain`.")
        return
    model_name, _, tag = name.partition("/")
    if not tag or model_name not in open_clip.list_models():
        raise BackboneError(
            f"'{name}' is no backbone: use '{EMBEDDED}', an open_clip MODEL/TAG such as ViT-L-14-336-quickgelu/openai, "
            "or a folder with open_clip_config.json."
        )
    if tag not in open_clip.list_pretrained_tags_by_model(model_name):
        raise BackboneError(f"open_clip has no weights '{tag}' for the model '{model_name}'.")
    if "hf_model_name" in text_config(name):
        raise BackboneError(f"'{name}' has a text tower of another library, which is not supported; choose another backbone.")


def model_config(name: str) -> dict[str, Any]:
    """open_clip's record of a backbone's architecture; {} for a name that is not known."""
    import open_clip

    if folder := _folder(name):
        return json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    model_name = name.partition("/")[0]
    return open_clip.get_model_config(model_name) if model_name in open_clip.list_models() else {}


def text_config(name: str) -> dict[str, Any]:
    """The part of `model_config` for the text tower; {} for a name that is not known."""
    return model_config(name).get("text_cfg", {})


def _create(name: str, progress: Progress | None) -> OpenClip:
    """open_clip's model for a known name."""
    import open_clip
    from open_clip.transform import merge_preprocess_dict

    if folder := _folder(name):
        read_weights(folder / WEIGHTS_FILE, with_checksums=name == EMBEDDED)  # open_clip itself looks at no checksum
        return open_clip.create_model(f"local-dir:{folder}")
    model_name, _, tag = name.partition("/")
    weights = fetch_weights(model_name, tag, progress)
    # given a file, open_clip does not know the tag's own activation, mean, standard deviation and interpolation
    record = open_clip.get_pretrained_cfg(model_name, tag)
    model = open_clip.create_model(model_name, pretrained=str(weights), force_quick_gelu=bool(record.get("quick_gelu")))
    preprocess = merge_preprocess_dict(model.visual.preprocess_cfg, record)
    model.visual.preprocess_cfg = preprocess | {"size": model.visual.image_size}
    return model


def _load_failure(name: str, error: Exception) -> str:
    """The sentence for weights on this machine that cannot be loaded."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
        return f"There is not enough memory for '{name}'; close other programs, or use the backbone '{EMBEDDED}'."
    folder = _folder(name)
    file = folder / WEIGHTS_FILE if folder else find_weights(*name.split("/", 1))
    return (
        f"The weights of '{name}' could not be loaded ({type(error).__name__}): {file} is damaged or belongs to another model; "
        f"delete it and try again, or use the backbone '{EMBEDDED}'."
    )


def create_model(name: str, progress: Progress | None = None) -> OpenClip:
    """open_clip's model for `name`, with every failure put into one sentence (BackboneError)."""
    require_known(name)
    try:
        model = _create(name, progress)
        check_finite(f"The backbone '{name}'", model.state_dict(), ("attn_mask",))
        return model
    except (PublishedError, WeightsError) as error:
        raise BackboneError(str(error)) from error
    except Exception as error:  # a file of other keys or shapes, a damaged one, too little memory
        raise BackboneError(_load_failure(name, error)) from error


class Backbone:
    """Both towers of one CLIP, in evaluation mode, with its own preprocessing, tokenizer, device and precision."""

    def __init__(self, name: str, model: torch.nn.Module, device: torch.device):
        self.name = name
        self.device = device
        self.precision = choose_precision(sum(p.numel() for p in model.parameters()), device)
        self.fingerprint = fingerprint(model)
        self.model: OpenClip = model.eval().requires_grad_(False).to(device)
        self.transform = make_transform(model)
        self.size = self.transform_size(model)
        self.reads_text = "hf_tokenizer_name" not in text_config(name)  # other tokenizers than CLIP's own come from the hub, piece by piece
        self.tokenizer = make_tokenizer(model)
        self.captioner: Backbone | None = None  # a CoCa that was chosen to write captions for this backbone
        self._texts: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, name: str = EMBEDDED, device: str | None = None, progress: Progress | None = None) -> Backbone:
        """Load by name. Raises BackboneError, one sentence, if the name is unknown or its weights cannot be loaded.

        progress: called with (bytes so far, bytes in all) while weights come from the hub.
        """
        target = choose_device(device)
        return cls(name, create_model(name, progress), target)

    def with_captioner(self, captioner: Backbone | None) -> Backbone:
        """The same backbone, which shares its weights, with another CoCa to write its captions; None: the default one."""
        twin = copy.copy(self)
        twin.captioner = captioner
        return twin

    @staticmethod
    def transform_size(model: OpenClip) -> int:
        """S, the side in pixels of the square that the tower reads."""
        size = model.visual.image_size
        return int(size[0] if isinstance(size, (tuple, list)) else size)

    def prepare(self, photo: Photo | np.ndarray, interpolation: str | None = None, resize: bool = True) -> Tensor:
        """(3, S, S) float32: shorter side to S, centre crop (or the whole image squashed), the model's normalisation.

        interpolation: None for the model's, or "bilinear" or "bicubic" (antialiased), which released heads may need. Without `resize`
        the crop is cut at the image's scale; a smaller image gets a black border.
        """
        pixels = photo.pixels if isinstance(photo, Photo) else photo
        transform = self.transform if interpolation is None and resize else make_transform(self.model, interpolation, resize)
        return transform(Image.fromarray(middle_part(pixels) if resize and not self.squashes else pixels))

    def view(self, photo: Photo) -> ScoredView:
        """The exact pixels that `prepare` passes to the tower, back as uint8, and their box in the photo."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.preprocess["mean"], self.preprocess["std"]))
        pixels = ((self.prepare(photo) * std + mean) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        whole = (0, 0, photo.width, photo.height)
        return ScoredView(pixels, whole if self.squashes else centre_box(photo.width, photo.height))

    @property
    def preprocess(self) -> dict:
        """open_clip's preprocessing record: size, mode, mean, std, interpolation, resize_mode, fill_color."""
        return dict(self.model.visual.preprocess_cfg)

    @property
    def squashes(self) -> bool:
        """Whether the model's preprocessing squashes the whole image into the square instead of cropping its centre."""
        return self.preprocess["resize_mode"] == "squash"

    @property
    def projection(self) -> Tensor:
        """W_proj: (D, E), from the pooled to the projected feature; the identity where the tower has none."""
        matrix = getattr(self.model.visual, "proj", None)
        return matrix.detach().float().cpu() if matrix is not None else torch.eye(self._output_width)

    @cached_property
    def _output_width(self) -> int:
        """E. timm's towers name it nowhere, so that it is counted once."""
        width = getattr(self.model.visual, "output_dim", None)
        return int(width or self.encode(torch.zeros(1, 3, self.size, self.size), tokens=False).projected.shape[1])

    @property
    def is_transformer(self) -> bool:
        """Whether the vision tower is open_clip's own transformer: the others (ResNet, timm) give the projected feature alone."""
        return hasattr(self.model.visual, "_pool")

    @property
    def sizes(self) -> Sizes:
        """Lengths of the pooled and of the projected feature."""
        return Sizes(*self.projection.shape)

    @torch.inference_mode()
    def encode(self, images: Tensor, tokens: bool = True) -> ClipFeatures:
        """images: (B, 3, S, S) from `prepare`. One forward of the vision tower. tokens: False leaves `patches` and `previous` out,
        which are most of what must be copied from the device."""
        checkpoint()
        visual = self.model.visual
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            images = images.to(self.device)
            if not self.is_transformer:  # only the projected feature is comparable
                projected = visual(images)
                return ClipFeatures(projected.float().cpu(), projected.float().cpu(), None)
            depth = min(2, len(visual.transformer.resblocks))
            out = visual.forward_intermediates(images, indices=depth, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True)
            *previous, last = (
                torch.cat(parts, dim=1)
                for parts in zip(out["image_intermediates_prefix"], out["image_intermediates"], strict=True)  # each (B, 1 + N, D)
            )
            pooled, _ = visual._pool(last)  # (B, D)
            projected = pooled @ visual.proj if visual.proj is not None else pooled  # (B, E)
        extra = [part.float().cpu() for part in (last[:, 1:], *previous)] if tokens else [None]
        return ClipFeatures(pooled.float().cpu(), projected.float().cpu(), *extra)

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> Tensor:
        """(len(texts), E) unit rows; each distinct text is encoded once while it stays in the cache. BackboneError without `reads_text`."""
        if not self.reads_text:
            raise BackboneError(
                f"'{self.name}' reads texts by a tokenizer other than CLIP's own, which is not supported; give it images only."
            )
        with self._lock:
            embeddings = {text: self._texts[text] for text in texts if text in self._texts}
        missing = [text for text in dict.fromkeys(texts) if text not in embeddings]
        for start in range(0, len(missing), TEXT_BATCH):
            checkpoint()
            chunk = missing[start : start + TEXT_BATCH]
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                rows = self.model.encode_text(self.tokenizer(chunk).to(self.device))
            embeddings.update(zip(chunk, F.normalize(rows.float(), dim=-1).cpu(), strict=True))
        with self._lock:
            if len(self._texts) > TEXT_CACHE:  # phrases typed by users must not grow memory without end
                self._texts.clear()
            self._texts.update((text, embeddings[text]) for text in missing if len(text) <= MAX_CACHED_LENGTH)
        return torch.stack([embeddings[text] for text in texts])


def middle_part(pixels: np.ndarray, aspect: int = 8) -> np.ndarray:
    """The image, or of one longer than `aspect` times its shorter side the middle part of that length.

    The transform scales before it crops: a strip of 2,000,000 × 1 pixels would become 288,000,000 × 144.
    """
    height, width = pixels.shape[:2]
    longest = aspect * min(height, width)
    y, x = (max(0, (length - longest) // 2) for length in (height, width))
    return pixels[y : height - y, x : width - x]


def centre_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The centre square that a shortest-side resize and a centre crop keep, in pixels of the original."""
    side = min(width, height)
    x, y = (width - side) // 2, (height - side) // 2
    return x, y, x + side, y + side


def make_transform(model: OpenClip, interpolation: str | None = None, resize: bool = True) -> Compose:
    """open_clip's evaluation transform for the model's own preprocessing record, or with another interpolation or no resize."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Resize

    record = dict(model.visual.preprocess_cfg) | ({"interpolation": interpolation} if interpolation else {})
    record |= {} if resize else {"resize_mode": "shortest"}  # the mode that cuts, whose resize is then left out
    transform = image_transform_v2(PreprocessCfg(**record), is_train=False)
    if not resize:
        transform.transforms = [step for step in transform.transforms if not isinstance(step, Resize)]
    return transform


def make_tokenizer(model: OpenClip) -> SimpleTokenizer:
    """The tokenizer that fits the text tower's vocabulary and context length."""
    text = getattr(model, "text", model)
    return simple_tokenizer(getattr(text, "vocab_size", FULL_VOCABULARY), model.context_length)


def fingerprint(model: OpenClip) -> str:
    """Sixteen hex digits of everything that decides the features: all tensors of both towers and of the decoder, the
    preprocessing record, the kind of activation and the number of attention heads (which the tensors do not tell)."""
    from open_clip.transformer import QuickGELU

    heads = [module.num_heads for module in model.modules() if isinstance(module, torch.nn.MultiheadAttention)]
    record = {
        "preprocess": dict(model.visual.preprocess_cfg),
        "heads": heads,
        "quick_gelu": any(isinstance(module, QuickGELU) for module in model.modules()),
    }
    return weights_fingerprint(model.state_dict(), record)
