"""Thirteen heads and a vocabulary that others have released: where they lie, and which input they need.

Pinned to commits of their public repositories and to SHA-256 checksums. Nothing is loaded or downloaded here.
"""

from __future__ import annotations

from dataclasses import dataclass

from detector.hub.download import PinnedFile

TRAININGS = ("combined", "synthclic", "synthbuster", "cnnspot")  # data sets that the clip-cues heads were trained on
_WIDTHS = {"pooled": 1024, "projected": 768}  # of ViT-L/14, at 224 and at 336 pixels


@dataclass(frozen=True, kw_only=True)
class PublishedSource(PinnedFile):
    """Where a head comes from and which input it needs."""

    method: str  # "linear", "orthogonal" or "concept"
    backbone: str  # MODEL/TAG of open_clip
    feature: str  # "pooled": before the projection, (B, 1024); "projected": after it, not normalised, (B, 768)
    interpolation: str  # "bilinear" or "bicubic", antialiased, of the resize to `image_size`
    resize: bool  # False: the centre crop is cut from the image at its own scale, as its authors evaluate
    image_size: int  # pixels, shorter side and centre crop
    training_data: str
    licence: str
    paper: str

    @property
    def width(self) -> int:
        """D, the length of the feature vector."""
        return _WIDTHS[self.feature]


_CLIP_CUES_URL = "https://raw.githubusercontent.com/marco-willi/clip-cues/4835e52cb8cdbf40dcb317a51c4029347093fe20/data/checkpoints"
_UNIVFD_URL = (
    "https://raw.githubusercontent.com/WisconsinAIVision/UniversalFakeDetect/76a0e3e60a8a06458707a625d269ba815a2e5919/pretrained_weights"
)
_CLIP_CUES_DATA = {
    "cnnspot": "CNNSpot",
    "synthbuster": "SynthBuster+",
    "synthclic": "SynthCLIC",
    "combined": "CNNSpot, SynthBuster+ and SynthCLIC",
}
_CLIP_CUES_FILES = {  # file stem: (bytes, SHA-256)
    "clip_orthogonal_cnnspot": (35088, "5261fc88e2b09fa48c5816193a2b6bb9305049e7f0e757e1f3f65d0542761840"),
    "clip_orthogonal_synthbuster": (35120, "7dbdd5f539f63227a497a18e0a8fe6e44ee08884e82f4eb961f0ce4edbe3cd9d"),
    "clip_orthogonal_synthclic": (35104, "0ddba778343c20186c6d3ab06198a956da3572058806cfbbf287a275f97ca5e4"),
    "clip_orthogonal_combined": (35096, "3f7e5404b2e7de38719e49edee363fd505956aae4760e6636518f4060efbc568"),
    "linear_probe_cnnspot": (5734, "b8201afaaceda70bf0dbfc3ffc2107dddbda49047c73557ae316cd5796c194ee"),
    "linear_probe_synthbuster": (5822, "86cbb71de789f81a6805a0b2ec479076079199d6d7ffb1441e6a9775853638cd"),
    "linear_probe_synthclic": (5810, "c7a310eb0b14290d6ede87c85505ecc0b8522f9618ec7b21e1a428334c4d749f"),
    "linear_probe_combined": (5740, "8904774bf2bc8266b55033301215ea8db8bf827f3fbccd61ada164f58778684f"),
    "cm_antonyms_cnnspot": (1035960, "e3464eff7b224236bd3d7f264f1c00fe03408feb534c400065d3dc8bccab89a4"),
    "cm_antonyms_synthbuster": (1036060, "654079042a20a2554ec12da031e1a370a224389ee1c6e68c6955648f7e899534"),
    "cm_antonyms_synthclic": (1035978, "35f57de4b02a878a0376f6e0d0cbb175f34fc3acb7f99ff2aa4d6e8a04783c4d"),
    "cm_antonyms_combined": (1035969, "956acb4ba8a6e86dea23d070f2a581747fc82c8bb02554a8a6acde6f9113bc20"),
}


def _clip_cues_source(stem: str, size: int, sha256: str) -> PublishedSource:
    """The linear and orthogonal heads saw torchvision's default resize, the concept heads CLIP's own."""
    method = {"clip": "orthogonal", "linear": "linear", "cm": "concept"}[stem.partition("_")[0]]
    concept = method == "concept"
    return PublishedSource(
        name=f"clip-cues/{stem}",
        method=method,
        url=f"{_CLIP_CUES_URL}/{stem}.ckpt",
        sha256=sha256,
        size=size,
        backbone="ViT-L-14-336-quickgelu/openai",
        feature="projected" if concept else "pooled",
        interpolation="bicubic" if concept else "bilinear",
        resize=True,
        image_size=336,
        training_data=_CLIP_CUES_DATA[stem.rpartition("_")[2]],
        licence="MIT",
        paper="arXiv 2602.12381",
    )


_UNIVFD = PublishedSource(
    name="univfd/fc",
    method="linear",
    url=f"{_UNIVFD_URL}/fc_weights.pth",
    sha256="477100745713bcc957beb2b40859536859b6483fd6301b3b9293151b194c7847",
    size=4083,
    backbone="ViT-L-14-quickgelu/openai",
    feature="projected",
    interpolation="bilinear",  # of its training; its evaluation does not resize
    resize=False,
    image_size=224,
    training_data="ProGAN, 20 classes",
    licence="MIT",
    paper="arXiv 2302.10174",
)

SOURCES = {source.name: source for source in (*(_clip_cues_source(stem, *pin) for stem, pin in _CLIP_CUES_FILES.items()), _UNIVFD)}
NAMES = tuple(SOURCES)
VOCABULARY = PinnedFile(
    name="clip-cues/antonyms",
    url="https://raw.githubusercontent.com/marco-willi/clip-cues/ba3ff65db7a2e6edbb3e5e07a933689b3d5ba1d1"
    "/reproduction/experiments/data/vocabularies/antonyms.csv",
    sha256="62c10a56b9d4f46623cd84564bb380138d9e1a59e6ba3448b928ddedb20be9de",
    size=29629,
)


def released_names(backbone: str) -> list[str]:
    """Names of all released heads for `backbone` (MODEL/TAG)."""
    return [name for name, source in SOURCES.items() if source.backbone == backbone]
