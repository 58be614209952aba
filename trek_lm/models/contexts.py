"""Hashes of the last few characters, the index of n-gram and match tables; steps.c has the same."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

BASE = 257  # characters are the digits of a number in this base
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as a signed int64


def _power_of_two(rows: int) -> int:
    if rows.bit_count() != 1:
        raise ValueError("must be a power of two")
    return rows


Rows = Annotated[int, Field(ge=2, le=2**20), AfterValidator(_power_of_two)]  # of a table


def hashes(seen: Tensor, positions: int, lengths: Sequence[int]) -> Tensor:
    """Hashes of the last n characters at each of the last `positions`, for each n of `lengths`.

    `seen` `(L, B)`: ids counted from 1, and 0 before the first character. Returns int64
    `(positions, B, len(lengths))`, whose upper bits are the best mixed.
    """
    number = torch.zeros_like(seen[:positions])
    found = {}
    for back in range(max(lengths)):
        end = len(seen) - back
        number = number * BASE + seen[end - positions : end]
        if back + 1 in lengths:
            found[back + 1] = number * MULTIPLIER
    return torch.stack([found[n] for n in lengths], -1)


def row_of(hashed: Tensor, rows: int) -> Tensor:
    """The row of a hash in a table of `rows` rows, a power of two."""
    return hashed >> 40 & rows - 1
