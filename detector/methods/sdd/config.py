"""The form of an SDD model."""

from __future__ import annotations

from dataclasses import dataclass

LARGE = 640  # pixels of the longer side


@dataclass(frozen=True)
class SddConfig:
    """Sizes are relative to the tower's width D where the paper's are of D = 1024."""

    rank: int = 6  # of every LoRA update (released code)
    adapted_blocks: int | None = None  # last blocks of the tower that LoRA adapts; None: all, the paper. With few, the rest is run once
    alpha: float = 6.0  # LoRA scale is alpha / rank
    bag: int = 64  # real tokens; the code's comments say 5,345, which a processor cannot afford
    heads: int = 16  # of each attention
    detach_attention: bool = False  # released code: attention modules get no gradient and stay random
    modulation: str = "exp"  # "exp": F' + F'·exp(−|F'−F|), the paper; "square", released code; "abs", its CAM variant
    modulated_stages: int = 3  # released code: 2
    use_sts: bool = True  # False: the bag is drawn at random instead of by Jensen-Shannon levels
    use_cfdl: bool = True  # False: no reconstruction, the tokens themselves modulate
    use_enhancer: bool = True  # False: the classifier reads the CLS token and the mean difference
    inputs: str = "plain"  # of the enhancer; ours: "highpass", differences beside the pixels; "local", `local_residual` in their place
    covariance: bool = False  # ours: second-order statistics of the enhancer's maps beside its last map
    target: str = "raw"  # what is rebuilt. "raw": the tokens, the released code; "unit": each token by its own mean and size, ours
    shortcut: bool = True  # released code: the tokens enter the decoder beside what is recalled; False: only what is recalled does, ours
    readout: str = "summary"  # "summary": CLS token and summary, the paper; "tokens": a logit for each token, their mean, ours
    widths: tuple[int, int, int] | None = None  # channels of the enhancer's stages; None: D / 8, D / 16 and 1, the paper
    dense: bool = False  # ours: the first stage reads every pixel with a 5 × 5 kernel and averages, instead of every second one
    windows: int = 4  # scored of an image, at most (choice)
    large_windows: int = 16  # the same for an image with a side over LARGE pixels, so that its inside is read, too (choice)
    lora_dropout: float = 0.0  # the paper: 0.8; of a weight's inputs, one draw for all tokens of a forward (choice)
    attention_dropout: float = 0.0  # released code: 0.1
    biases: bool = False  # released code: all biases of the tower, its class and its positional embeddings are trained, too
