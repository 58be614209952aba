from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import distributed

from trek_lm.training.distributed import mean_over_ranks

# Rows of two ranks' gradients: equal, more in one rank, repeated, none.
CASES = [([0, 3], [0, 3]), ([1, 2, 4], [2]), ([2, 2, 1], [1, 1]), ([], [3, 0]), ([], [])]


def gradient(rows: list[int], rank: int) -> torch.Tensor:
    values = torch.arange(1.0, 1 + 2 * len(rows)).view(-1, 2) * (1 + 10 * rank)
    return torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.long), values, (5, 2), check_invariants=True
    )


def as_rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    means = [mean_over_ranks(gradient(rows[rank], rank)).to_dense() for rows in CASES]
    torch.save(means, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> list[list[torch.Tensor]]:
    """The result of each rank for each case."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(as_rank, [(rank, str(folder)) for rank in range(2)], chunksize=1)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_rank_gets_the_mean(case: int, means: list[list[torch.Tensor]]) -> None:
    dense = [gradient(rows, rank).to_dense() for rank, rows in enumerate(CASES[case])]
    for rank in range(2):
        assert torch.equal(means[rank][case], (dense[0] + dense[1]) / 2)
