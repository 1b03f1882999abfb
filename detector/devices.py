"""What code that runs on any device needs: values back as numpy, and reduced precision only where the device has it."""

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


def has_matrix_units() -> bool:
    """Whether the processor has units for products of bfloat16 matrices (AMX), with which convolutions train about three times as fast."""
    return bool(torch.cpu._is_amx_tile_supported())


def training_autocast(device: torch.device) -> torch.autocast:
    """For the forward pass of a training: bfloat16 where the card or the processor multiplies it itself, else nothing."""
    fast = has_matrix_units() if device.type == "cpu" else has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
