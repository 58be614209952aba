"""Training speed: characters per second, alternating in one run, and ratios.

python -m tests.benchmarks.train_speed [--parts table loop profile] [--cells lstm gru]
    [--sizes 3x200 2x400 1x512] [--batches 16 64 128 256] [--rounds 3]
    [--nanogpt DIR] [--char-rnn DIR]       checkouts of karpathy/nanoGPT, spro/char-rnn.pytorch

table: whole training steps (forward, loss, backward, SGD) on lines of 72 characters of the bundled
text, one-hot input. Columns: the write-up's method (a PackedSequence of one-hot tensors, 16 lines
of unequal length for every batch size, float32); torch's layers and ours, in float32 and under bf16
autocast, if torch's LSTM supports it here. `share`: the rate of the products between layers and
states and of the head, relative to a product of 2048 x 2048 matrices in the same precision.
`ratio`: our fastest over torch's fastest.

loop: steps of `train.py data=tos`, alternating in one process with the same steps on the same
batches in a plain loop, from step 241 on: before that, memory still grows with ever longer lines.

profile: how the time of a step of such a run is spent.

Implementations of the recurrent layers that were tried: LSTM 3 x 200, 64 lines, on two cores of an
AMD EPYC (AVX-512 with bf16, no AMX), in thousands of characters per second, forward and backward.
torch's layers do 35 to 38 there in bf16.

- Hand-written backward in PyTorch: 47; with each step's pointwise part compiled: 51. torch's layers
  did 65 (another machine, with AMX): the overhead of so many calls outweighs the gains.
- C where each thread takes some lines through all steps of all layers, without a barrier, and
  weights are packed once per batch: 62 (the first version; 57 alternating with torch's).
- Loops over units that compilers can vectorise (one wasn't), conversions to bf16 by the
  processor's own instruction, and the first layer's product looked up by character: 71.
- A shorter exponential, without conversions to integers: 73. Huge pages: no gain.

At that point four fifths of the time are products at 0.22 TFLOP/s per thread, the most these cores
do; without everything else it would be 90. So the LSTM stays below twice torch's speed; the GRU is
well above that.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence

from tests.support.commands import PROJECT
from trek_lm.data.charset import Charset
from trek_lm.data.corpora import BundledSource
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.training.hardware import torch_has_bf16_lstm

T, V = 72, 72  # sequence length, vocabulary size
Step = Callable[[], int]  # makes one training step; returns its number of characters
WAYS = ("packed", "torch fp32", "torch bf16", "native fp32", "native bf16")


def text() -> Tensor:
    """The bundled corpus as ids."""
    return Charset.writeup().encode(
        "".join(episode.text for episode in BundledSource().read().episodes)
    )


def batch(lines: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets `(T, lines)`, consecutive characters of the text."""
    ids = text()
    ids = ids.repeat(-(-(lines * T + 1) // len(ids))).long()
    cut = [ids[start : start + lines * T].view(lines, T).T.contiguous() for start in (0, 1)]
    return cut[0], cut[1]


def trained(model: nn.Module, loss: Callable[[], Tensor], characters: int) -> Step:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)

    def step() -> int:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return characters

    return step


def ours(way: str, lines: int, **settings: Any) -> Step:
    """A training step of our model; `way` is its engine and precision."""
    engine, precision = way.split()
    model = RecurrentLM(V, engine=engine, **settings)
    inputs, targets = batch(lines)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits, _ = model(inputs)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return trained(model, loss, T * lines)


class Packed(nn.Module):
    """The write-up's method: a PackedSequence of one-hot tensors of 16 consecutive lines."""

    def __init__(self, cell: str, hidden: int, layers: int) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.recurrent = kind(V, hidden, layers)
        self.head = nn.Linear(hidden, V)
        ids = text()
        ends = (ids == ids[-1]).nonzero().flatten()[: 16 + 1].tolist()  # newlines
        self.lines = [ids[end + 1 : next_end + 1].long() for end, next_end in pairwise(ends)]
        self.characters = sum(len(line) - 1 for line in self.lines)

    def loss(self) -> Tensor:
        given = [functional.one_hot(line[:-1], V).float() for line in self.lines]
        outputs, _ = self.recurrent(pack_sequence(given, enforce_sorted=False))
        targets = pack_sequence([line[1:] for line in self.lines], enforce_sorted=False)
        return functional.cross_entropy(self.head(outputs.data), targets.data)


def contenders(cell: str, hidden: int, layers: int, lines: int) -> dict[str, Step]:
    packed = Packed(cell, hidden, layers)
    settings: dict[str, Any] = {"cell": cell, "hidden": hidden, "layers": layers}
    steps = {WAYS[0]: trained(packed, packed.loss, packed.characters)}
    for way in WAYS[1:]:
        if way == "torch bf16" and not torch_has_bf16_lstm():
            continue  # its GRU has no fast product there either
        steps[way] = ours(way, lines, **settings)
    return steps


def rates(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median characters per second of each step, alternating; the first round is warm-up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            characters = step()
            if number:
                found[name].append(characters / (time.perf_counter() - started))
    return {name: median(values) for name, values in found.items()}


def matmul_rate(dtype: torch.dtype) -> float:
    """FLOP/s of a product of large matrices, best of ten."""
    one = torch.randn(2048, 2048).to(dtype)
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        one @ one
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return best


def flops(cell: str, hidden: int, layers: int) -> int:
    """FLOP per character: forward, and twice that backward; the input lookup is free."""
    gates = {"lstm": 4, "gru": 3}[cell]
    return 3 * 2 * (gates * hidden**2 * (2 * layers - 1) + hidden * V)


def table(options: argparse.Namespace) -> None:
    peak = dict.fromkeys(("fp32", "bf16"), matmul_rate(torch.float32))
    if torch_has_bf16_lstm():  # else bf16 is multiplied as float32
        peak["bf16"] = matmul_rate(torch.bfloat16)
    print(", ".join(f"{name} products {rate / 1e12:.2f} TFLOP/s" for name, rate in peak.items()))
    columns = ["write-up's", *WAYS[1:], "share", "ratio"]
    print(f"| | batch | {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) + 1)}")
    for cell in options.cells:
        for size in options.sizes:
            layers, hidden = map(int, size.split("x"))
            for lines in options.batches:
                found = rates(contenders(cell, hidden, layers, lines), options.rounds)
                best = max(WAYS[3:], key=lambda way: found[way])
                share = found[best] * flops(cell, hidden, layers) / peak[best.split()[1]]
                ratio = found[best] / max(found[way] for way in WAYS[1:3] if way in found)
                cells = [f"{found[way] / 1000:.1f}k" if way in found else "" for way in WAYS]
                row = (f"{cell.upper()} {layers} x {hidden}", str(lines), *cells)
                print(f"| {' | '.join(row)} | {share:.0%} | {ratio:.2f} |", flush=True)


def nanogpt(folder: Path) -> tuple[str, Step]:
    """nanoGPT's recipe for a CPU: 4 layers of 128, 12 x 64 characters, AdamW."""
    module = loaded(folder / "model.py")
    config = module.GPTConfig(
        block_size=64, vocab_size=V, n_layer=4, n_head=4, n_embd=128, dropout=0.0, bias=False
    )
    model = module.GPT(config)
    ids = text()[: 12 * 64 + 1].long()
    inputs, targets = ids[:-1].view(12, 64), ids[1:].view(12, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16):
            _, loss = model(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return inputs.numel()

    return (
        f"nanoGPT, 4 x 128, bf16, {sum(p.numel() for p in model.parameters()):,} parameters",
        step,
    )


def char_rnn(folder: Path, cell: str) -> tuple[str, Step]:
    """char-rnn.pytorch's loop over characters, at 3 x 200 and 64 lines."""
    model = loaded(folder / "model.py").CharRNN(V, 200, V, model=cell, n_layers=3)
    inputs, targets = (part.T for part in batch(64))  # (lines, T) there

    def loss() -> Tensor:
        hidden, total = model.init_hidden(64), torch.zeros(())
        for t in range(T):
            output, hidden = model(inputs[:, t], hidden)
            total = total + functional.cross_entropy(output, targets[:, t])
        return total / T

    return f"char-rnn.pytorch, {cell.upper()} 3 x 200, 64 lines", trained(model, loss, T * 64)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.parent.name.replace("-", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def others(options: argparse.Namespace) -> None:
    steps = {
        f"ours, {cell.upper()} 3 x 200, 64 lines, bf16": ours(
            "native bf16", 64, cell=cell, hidden=200, layers=3
        )
        for cell in options.cells
    }
    if options.nanogpt:
        steps.update([nanogpt(options.nanogpt)])
    if options.char_rnn:
        steps.update(char_rnn(options.char_rnn, cell) for cell in options.cells)
    for name, rate in rates(steps, options.rounds).items():
        print(f"{name}: {rate / 1000:.1f}k chars/s", flush=True)


def run(*settings: str) -> None:
    """Runs train.py with these settings and prints the lines of `training_loop`."""
    root = Path(os.environ.get("TREK_LM_DATA", PROJECT.parent / "shared" / "data"))
    source = root / "startrek" / "tos"
    settings = ("data=tos", *([f"data.root={source}"] if source.is_dir() else []), *settings)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(PROJECT / "train.py"), *settings],
            cwd=folder,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
    shown = [line for line in done.stdout.splitlines() if line.startswith("step: ")]
    print("\n".join(line.removeprefix("step: ") for line in shown), flush=True)


def loops(options: argparse.Namespace, target: str, name: str) -> None:
    for cell in options.cells:
        for layers, hidden, lines in ((3, 200, 64), (1, 256, 32)):
            print(f"{cell.upper()} {layers} x {hidden}, {lines} lines: ", end="", flush=True)
            run(
                *(f"model={cell}", f"model.layers={layers}", f"model.hidden={hidden}"),
                *(f"data.batch_size={lines}", "trainer.max_epochs=2"),
                *("+trainer.limit_train_batches=240", "+trainer.limit_val_batches=1"),
                *("+trainer.limit_test_batches=1", f"+{name}._target_={target}"),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--parts", nargs="+", default=("table", "loop", "profile"))
    parser.add_argument("--cells", nargs="+", default=("lstm", "gru"))
    parser.add_argument("--sizes", nargs="+", default=("3x200", "2x400", "1x512"))
    parser.add_argument("--batches", nargs="+", type=int, default=(16, 64, 128, 256))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--char-rnn", type=Path)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads")
    if "table" in options.parts:
        table(options)
    if options.nanogpt or options.char_rnn:
        others(options)
    if "loop" in options.parts:
        loops(options, "tests.benchmarks.training_loop.Bare", "callbacks.bare")
    if "profile" in options.parts:
        loops(options, "tests.benchmarks.training_loop.Profile", "trainer.profiler")


if __name__ == "__main__":
    main()
