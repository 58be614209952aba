"""A sparse gradient over several processes.

Torch's own way, which DistributedDataParallel takes, ends now and then with a segmentation fault
between CPUs (gloo, torch 2.13) and isn't there between GPUs (NCCL).
"""

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad


def mean_over_ranks(gradient: Tensor) -> Tensor:
    """The mean of a sparse `(R, V)` over all ranks, each of which has rows of its own."""
    own = gradient.coalesce()
    rows, values = own.indices()[0], own.values()  # (N,), (N, V)
    most = int(max(_gathered(torch.tensor([len(rows)], device=rows.device))))
    missing = most - len(rows)
    # Filled up with nothing for row 0.
    rows = _gathered(pad(rows, (0, missing)))
    values = _gathered(pad(values, (0, 0, 0, missing))) / distributed.get_world_size()
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, check_invariants=False)


def _gathered(own: Tensor) -> Tensor:
    """That of every rank, all of one shape, one after the other."""
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)
