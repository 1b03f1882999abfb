"""What code that runs on any device needs: values back as numpy, and reduced precision only where the card has it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The values of a tensor of any device, without gradients; half precision becomes float32."""
    plain = tensor.detach().cpu()  # to the CPU first: not every device has float64
    return (plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain).numpy()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device is a CUDA card that multiplies bfloat16 itself; one that emulates it would only be slower."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def training_autocast(device: torch.device) -> torch.autocast:
    """For the forward pass of a training: bfloat16 where `has_bfloat16`, else nothing, so that the CPU's numbers stay as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))
