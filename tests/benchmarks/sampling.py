"""Sampling speed: `python -m tests.benchmarks.sampling [CHECKPOINT]`.

Characters per second of LSTM and GRU, 3 x 200 with the write-up's head, alternating in one run,
medians: one line streamed character by character, and 512 lines in a batch. Compares a plain loop
around torch.nn (the whole module per character, softmax, multinomial), the code without a C
compiler, and steps.c. With a checkpoint also: the KL divergence of bf16 from float64 on lines that
the model wrote, and how many of 10,000 lines differ when streamed, and without a compiler.

Implementations tried: LSTM 3 x 200 on one core of an AMD EPYC virtual machine (AVX-512 with bf16,
no AMX; 85 GFLOP/s in float32, 190 in bf16) that was also training. torch.nn.LSTM: 0.9k characters
per second for one line and 34k for 512.

- PyTorch with weights prepared once (a table for the first layer's input, one product per layer):
  3.1k and 31k. A dozen calls per layer cost more than a line's arithmetic.
- The same with products in bf16: 1.3k and 54k; 512 lines wait for memory between calls. The texts
  of one line and of a batch diverge, because different rounding changes the next characters.
- C for one line, bf16 weights widened to float32, sums along each row: 13k.
- steps.c, with weights in panels and the processor's bf16 products: 35k and 88k. 300k for 512
  lines on two cores is beyond this machine: its products alone would allow 218k.

int8 weights were not tried: bf16 is at 2e-5 to 7e-5 of the 1e-4 nats allowed.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median

import torch

from trek_lm import CharLM
from trek_lm.data.charset import Charset
from trek_lm.generation.steppers import NativeStepper
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.build import library, start_build
from trek_lm.models.native.weights import packed

ROUNDS, SINGLE, LINES, EACH = 5, 1000, 512, 60


def forget() -> None:
    """Clears the caches, as in a new process."""
    library.cache_clear()
    start_build.cache_clear()


@torch.inference_mode()
def plain_loop(model: RecurrentLM, rows: int, count: int) -> int:
    """The loop of a tutorial; returns the number of characters."""
    ids, state = torch.zeros(1, rows, dtype=torch.long), None
    for _ in range(count):
        logits, state = model(ids, state)
        ids = torch.multinomial((logits[0] / 0.5).softmax(-1), 1).T
    return rows * count


def streamed(lm: CharLM, count: int) -> int:
    """Streams one line; returns the number of characters."""
    return sum(1 for _ in islice(lm.stream(n=1, max_chars=count, seed=1), 1, count))


def at_once(lm: CharLM) -> int:
    """Writes lines of full length in a batch; returns the number of characters."""
    return sum(line.drawn for line in lm.lines(n=LINES, max_chars=EACH, seed=1))


@contextmanager
def without_native() -> Iterator[None]:
    """Runs the block as on a machine without a compiler."""
    os.environ["TREK_LM_NATIVE"] = "0"
    forget()
    try:
        yield
    finally:
        del os.environ["TREK_LM_NATIVE"]
        forget()


def speed(write: Callable[[], int]) -> float:
    started = time.perf_counter()
    return write() / (time.perf_counter() - started)


def fallback(write: Callable[[], int]) -> float:
    with without_native():
        return speed(write)


def compare(cell: str) -> None:
    charset = Charset.writeup()
    model = RecurrentLM(len(charset), cell=cell, hidden=200, layers=3, head="writeup").eval()
    lm = CharLM(model, charset, {})  # without speakers no line ends early
    ways: dict[str, dict[str, Callable[[], float]]] = {
        "one line": {
            f"torch.nn.{cell.upper()}": lambda: speed(lambda: plain_loop(model, 1, SINGLE // 4)),
            "without compiler": lambda: fallback(lambda: streamed(lm, SINGLE // 4)),
            "steps.c": lambda: speed(lambda: streamed(lm, 4 * SINGLE)),
        },
        f"{LINES} lines": {
            f"torch.nn.{cell.upper()}": lambda: speed(lambda: plain_loop(model, LINES, EACH)),
            "without compiler": lambda: fallback(lambda: at_once(lm)),
            "steps.c": lambda: speed(lambda: at_once(lm)),
        },
    }
    for what, measures in ways.items():
        found: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(ROUNDS):
            for name, measure in measures.items():
                found[name].append(measure())
        plain, *_ = (median(speeds) for speeds in found.values())
        shown = (
            f"{name} {median(speeds) / 1000:.1f}k ({median(speeds) / plain:.1f})"
            for name, speeds in found.items()
        )
        print(f"{cell.upper()}, {what:<9}  {'   '.join(shown)}")


def set_up() -> None:
    """Prints the seconds of building steps.c and of packing weights."""
    model = RecurrentLM(72, hidden=200, layers=3, head="writeup").eval()
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("TREK_LM_CACHE")
        os.environ["TREK_LM_CACHE"] = folder
        forget()
        started = time.perf_counter()
        library("steps")
        built = time.perf_counter() - started
        del os.environ["TREK_LM_CACHE"]
        if before is not None:
            os.environ["TREK_LM_CACHE"] = before
        forget()
    packed(model)
    started = time.perf_counter()
    packed(model)
    taken = time.perf_counter() - started
    print(f"built once in {built:.2f} s; weights packed in {1000 * taken:.0f} ms per call")


@torch.no_grad()
def check(path: str) -> None:
    lm = CharLM.load(path)
    ids = lm.charset.encode("\n".join(lm.generate(n=100, seed=1)))
    if (weights := packed(lm.model)) is not None:
        stepped = NativeStepper(weights, 1).read(ids.numpy()[:, None])[:, 0]
        q = torch.from_numpy(stepped).double()
        p = lm.model.double()(ids.long()[:, None])[0][:, 0].log_softmax(-1)
        divergence = (p.exp() * (p - q.log_softmax(-1))).sum(-1).mean()
        print(f"bf16: KL divergence {divergence:.1e} nats per character, {len(ids)} characters")
        lm.model.float()
    n = 10_000
    batched = lm.generate(n=n, seed=5)
    one_by_one = "".join(lm.stream(n=n, seed=5)).splitlines()
    differ = sum(one != other for one, other in zip(batched, one_by_one, strict=True))
    print(f"{differ} of {n:,} lines differ when streamed")
    with without_native():
        other = lm.generate(n=n, seed=5)
    differ = sum(one != another for one, another in zip(batched, other, strict=True))
    print(f"{differ} of {n:,} lines differ without a compiler")


def main() -> None:
    print(f"{torch.get_num_threads()} threads, characters per second (times the plain loop)")
    set_up()
    for cell in ("lstm", "gru"):
        compare(cell)
    for path in sys.argv[1:]:
        check(path)


if __name__ == "__main__":
    main()
