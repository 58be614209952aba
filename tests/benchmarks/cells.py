"""LSTM against GRU: `python -m tests.benchmarks.cells` prints characters per second and ratios.

Alternates training steps (forward, backward, SGD) of both on a batch of 28 lines of 72 characters,
with torch's layers and with ours. Prints medians of a hundred steps each, on torch's default
number of threads.
"""

import time
from collections import defaultdict
from contextlib import nullcontext
from itertools import product
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from trek_lm.models.char_lm import RecurrentLM
from trek_lm.training.hardware import torch_has_bf16_lstm

LENGTH, LINES, VOCAB_SIZE, ROUNDS = 72, 28, 72, 100
SIZES: dict[str, dict[str, Any]] = {
    "3 x 200": {"hidden": 200, "layers": 3},
    "1 x 256": {"hidden": 256, "layers": 1},
}


def seconds_of_a_step(model: RecurrentLM, optimizer: torch.optim.Optimizer, bf16: bool) -> float:
    ids = torch.randint(VOCAB_SIZE, (LENGTH + 1, LINES))
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        logits, _ = model(ids[:-1])
    loss = functional.cross_entropy(logits.float().flatten(0, 1), ids[1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    print(f"{torch.get_num_threads()} threads")
    for engine, (size, settings) in product(("torch", "native"), SIZES.items()):
        for bf16 in (False, True):
            if bf16 and engine == "torch" and not torch_has_bf16_lstm():
                continue
            pairs = {}
            for cell in ("lstm", "gru"):
                model = RecurrentLM(
                    VOCAB_SIZE, cell=cell, engine=engine, head="writeup", **settings
                )
                trained = [p for p in model.parameters() if p.requires_grad]
                pairs[cell] = (model, torch.optim.SGD(trained, lr=0.01))
            seconds = defaultdict(list)
            for number in range(ROUNDS + 3):
                for cell, pair in pairs.items():
                    taken = seconds_of_a_step(*pair, bf16)
                    if number >= 3:  # the first ones are warm-up
                        seconds[cell].append(taken)
            speed = {cell: LENGTH * LINES / median(taken) for cell, taken in seconds.items()}
            print(
                f"{engine}, {size} {'bf16' if bf16 else 'fp32'}: "
                f"LSTM {speed['lstm'] / 1000:.1f}k, GRU {speed['gru'] / 1000:.1f}k chars/s, "
                f"GRU / LSTM {speed['gru'] / speed['lstm']:.2f}"
            )


if __name__ == "__main__":
    main()
