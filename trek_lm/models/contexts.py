"""The last few characters as a number, by which tables are looked up; steps.c has the same."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

BASE = 257  # of the number that some characters make
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as the signed number torch has


def _power_of_two(rows: int) -> int:
    if rows.bit_count() != 1:
        raise ValueError("must be a power of two")
    return rows


Rows = Annotated[int, Field(ge=2, le=2**20), AfterValidator(_power_of_two)]  # that tables can have


def hashes(seen: Tensor, places: int, lengths: Sequence[int]) -> Tensor:
    """For each of the last `places` and each length n, of the n characters up to there.

    `seen` `(L, B)`: ids counted from 1, and 0 for a place before the first; gives int64
    `(places, B, len(lengths))`. The upper bits are the good ones.
    """
    number = torch.zeros_like(seen[:places])
    found = {}
    for back in range(max(lengths)):
        end = len(seen) - back
        number = number * BASE + seen[end - places : end]
        if back + 1 in lengths:
            found[back + 1] = number * MULTIPLIER
    return torch.stack([found[n] for n in lengths], -1)


def row_of(hashed: Tensor, rows: int) -> Tensor:
    """Its row in a table of so many `Rows`."""
    return hashed >> 40 & rows - 1
