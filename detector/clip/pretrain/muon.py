"""Muon (Jordan et al. 2024): momentum whose update is orthogonalised, for matrices inside transformer blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detector.devices import has_bfloat16


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by five quintic Newton-Schulz steps (Jordan et al. 2024)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Float32Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` in float32, for torch 2.8, which has no Muon, and for devices without bfloat16, in which torch's computes.

    Measured on the embedded model with one thread: 2.5 s a step here, more than 110 s with torch's, on a processor without bfloat16.
    """

    def __init__(self, matrices: Sequence[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no loss, as in most of torch's
        """One update of every matrix that has a gradient. closure: not called."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalise(matrix.grad.lerp(momentum, group["momentum"]))
                size = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update * size, alpha=-group["lr"])


def matrix_optimiser(matrices: Sequence[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Muon over matrices: torch's where torch has it and the device multiplies bfloat16, else `Float32Muon`.

    A matrix that holds query, key and value one below the other, (3 D, D), is updated as three. Clear gradients by the module's
    `zero_grad`: the optimiser only knows views of such a matrix.
    """
    views = [(matrix, matrix.detach().split(matrix.shape[1] if 3 * matrix.shape[1] == len(matrix) else len(matrix))) for matrix in matrices]
    fast = bool(matrices) and hasattr(torch.optim, "Muon") and has_bfloat16(matrices[0].device)
    kind: Any = torch.optim.Muon if fast else Float32Muon
    optimiser = kind([part for _, parts in views for part in parts], lr=lr, weight_decay=weight_decay)

    def share_gradients(*_: Any) -> None:
        for matrix, parts in views:
            gradients = [None] * len(parts) if matrix.grad is None else matrix.grad.split(len(parts[0]))
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient

    optimiser.register_step_pre_hook(share_gradients)
    return optimiser
