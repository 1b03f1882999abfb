"""A CoCa's text tower and decoder one token at a time: keys and values of earlier tokens, and of the image, are computed once.

The same numbers as open_clip's own forward over the whole sequence, up to rounding, because the text tower is causal: no token
attends to a later one, nor to the class token behind all of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Decoder:
    """Captions of B images in the making. tokens: (B, N, D) what the decoder attends to of each image."""

    def __init__(self, model: Any, tokens: Tensor):
        self.text, self.decoder = model.text, model.text_decoder
        self.images = [_keys_and_values(block.attn, block.ln_1_kv(tokens)) for block in self.decoder.cross_attn]
        self.earlier: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # block → keys and values, (B, heads, tokens so far, D / heads) each
        self.length = 0
        self.readable = torch.ones(len(tokens), 0, dtype=torch.bool, device=tokens.device)  # (B, tokens so far) may be attended to
        self.after_padding = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)

    def step(self, token: Tensor) -> Tensor:
        """(B,) the token that each caption goes on with → (B, vocabulary) logits of the next one."""
        self._extend_mask(token)
        states = self.text.token_embedding(token)[:, None] + self.text.positional_embedding[self.length]  # (B, 1, D)
        for block in self.text.transformer.resblocks:
            states = self._read_text(block, states, self.readable[:, None, None])
        states = states if self.text.cls_emb is not None else self.text.ln_final(states)
        for block, cross, image in zip(self.decoder.resblocks, self.decoder.cross_attn, self.images, strict=True):
            states = self._read_text(block, states, None)
            states = _finished(cross, states, _attended(cross.attn, _query(cross.attn, cross.ln_1(states)), *image))
        self.length += 1
        return (self.decoder.ln_final(states) @ self.decoder.text_projection)[:, 0]

    def keep(self, rows: Tensor) -> None:
        """Go on with the captions of these places only, (B,) whole numbers or a mask."""
        self.images = [(keys[rows], values[rows]) for keys, values in self.images]
        self.earlier = {block: (keys[rows], values[rows]) for block, (keys, values) in self.earlier.items()}
        self.readable, self.after_padding = self.readable[rows], self.after_padding[rows]

    def _extend_mask(self, token: Tensor) -> None:
        """The text tower with a class token masks padding, whose number is also that of the first word of the vocabulary; without
        `correct_cls_mask` it masks the token behind instead, as CoCa's released weights were trained."""
        padding = token == self.text.pad_id if self.text.cls_emb is not None else torch.zeros_like(self.after_padding)
        masked = padding if self.text.correct_cls_mask else self.after_padding
        self.readable, self.after_padding = torch.cat([self.readable, ~masked[:, None]], dim=1), padding

    def _read_text(self, block: Any, states: Tensor, mask: Tensor | None) -> Tensor:
        """A block whose last token attends to itself and all earlier ones."""
        attention = block.attn
        projected = F.linear(block.ln_1(states), attention.in_proj_weight, attention.in_proj_bias)  # (B, 1, 3 D)
        query, *latest = (_split(part, attention.num_heads) for part in projected.chunk(3, dim=2))
        earlier = self.earlier.get(block)
        keys, values = latest if earlier is None else (torch.cat(pair, dim=2) for pair in zip(earlier, latest, strict=True))
        self.earlier[block] = keys, values
        return _finished(block, states, _attended(attention, query, keys, values, mask))


def _split(states: Tensor, heads: int) -> Tensor:
    """(B, N, D) → (B, heads, N, D / heads)."""
    return states.unflatten(2, (heads, -1)).transpose(1, 2)


def _keys_and_values(attention: nn.MultiheadAttention, context: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, D) → (B, heads, N, D / heads) each."""
    width = attention.embed_dim
    keys, values = F.linear(context, attention.in_proj_weight[width:], attention.in_proj_bias[width:]).chunk(2, dim=2)
    return _split(keys, attention.num_heads), _split(values, attention.num_heads)


def _query(attention: nn.MultiheadAttention, states: Tensor) -> Tensor:
    """(B, 1, D) → (B, heads, 1, D / heads)."""
    width = attention.embed_dim
    return _split(F.linear(states, attention.in_proj_weight[:width], attention.in_proj_bias[:width]), attention.num_heads)


def _attended(attention: nn.MultiheadAttention, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, heads, 1, D / heads) → (B, 1, D). mask: (B, 1, 1, N), True where a key may be attended to."""
    read = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return attention.out_proj(read.transpose(1, 2).flatten(2))


def _finished(block: Any, states: Tensor, attended: Tensor) -> Tensor:
    """What open_clip's block makes of its input and of what it attended to."""
    states = states + block.ls_1(attended)
    return states + block.ls_2(block.mlp(block.ln_2(states)))
