"""Weights files with checksums: safetensors whose header holds one of the tensors and one of itself.

Reading detects a flipped bit in either before any number is used. `fingerprint` names a whole model by all
of its tensors, so that a head that was trained on other weights is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TENSORS, HEADER = "sha256", "header_sha256"  # names of the two checksums in a file's header


class WeightsError(RuntimeError):
    """One sentence that says why a weights file cannot be used."""


def tensor_digest(tensors: Mapping[str, Tensor | np.ndarray]) -> str:
    """64 hex digits: SHA-256 over every tensor's name, type, shape and bytes, in the order of their names."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # hashing lets go of the interpreter
        parts = pool.map(_one_digest, sorted(tensors), (tensors[name] for name in sorted(tensors)))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _one_digest(name: str, tensor: Tensor | np.ndarray) -> bytes:
    plain = torch.as_tensor(tensor).detach().cpu().contiguous()
    digest = hashlib.sha256(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def fingerprint(tensors: Mapping[str, Tensor | np.ndarray], record: Mapping[str, object]) -> str:
    """Sixteen hex digits of all tensors and of a record of plain values that numbers depend on also depend on, such as preprocessing."""
    plain = json.dumps(record, sort_keys=True, default=list)
    return hashlib.sha256(f"{tensor_digest(tensors)} {plain}".encode()).hexdigest()[:16]


def _header_digest(header: Mapping[str, str]) -> str:
    rest = {name: text for name, text in header.items() if name != HEADER}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_weights(path: Path, tensors: Mapping[str, Tensor | np.ndarray], header: Mapping[str, str]) -> None:
    """Write tensors, in the precision they have, and the header with both checksums; an older file is replaced as a whole."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in tensors.items()}
    header = {**header, TENSORS: tensor_digest(plain)}
    temporary = path.with_suffix(".partial")
    save_file(plain, temporary, metadata={**header, HEADER: _header_digest(header)})
    os.replace(temporary, path)


def read_weights(path: Path, with_checksums: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file. WeightsError, one sentence, if it cannot be read or differs from its checksums.

    with_checksums: False also accepts files without checksums, as other programs write them.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"The weights file {path.name} cannot be read; get it again or train it again.") from error
    _check_digests(path, tensors, header, with_checksums)
    return tensors, header


def _check_digests(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], with_checksums: bool) -> None:
    names = {TENSORS, HEADER} & header.keys()
    if not names and not with_checksums:
        return
    if len(names) < 2:
        raise WeightsError(f"The header of {path.name} lacks its checksums; get the file again or train it again.")
    if header[HEADER] != _header_digest(header) or header[TENSORS] != tensor_digest(tensors):
        raise WeightsError(f"The weights file {path.name} is damaged: it differs from its own checksum; get it again or train it again.")


def check_finite(what: str, tensors: Mapping[str, Tensor], but: tuple[str, ...] = ()) -> None:
    """Raise WeightsError if a tensor not named in `but` holds NaN or infinity. what: the subject of the sentence."""
    for name, tensor in tensors.items():
        if name not in but and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{what} holds numbers that are not finite (in '{name}'); get it again or train it again.")


def check_shapes(what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int | str, ...]]) -> None:
    """Raise WeightsError unless exactly the tensors of `shapes` are there, each of its shape.

    A side that is given as a word may have any length, the same wherever the word stands. what: the subject of the sentence.
    """
    if tensors.keys() != shapes.keys():
        mismatch = sorted(tensors.keys() ^ shapes.keys())[0]
        raise WeightsError(f"{what} does not have the tensors of its method (see '{mismatch}'); train it again.")
    lengths: dict[str, int] = {}
    for name, shape in shapes.items():
        actual = tuple(tensors[name].shape)
        matches = len(actual) == len(shape) and all(
            length == (lengths.setdefault(side, length) if isinstance(side, str) else side)
            for length, side in zip(actual, shape, strict=True)
        )
        if not matches:
            raise WeightsError(f"{what} has a tensor '{name}' of shape {actual}, which does not fit; train it again.")
