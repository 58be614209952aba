"""Dynamic evaluation: `python -m tests.benchmarks.dynamic val|test RATE FOLDER...`.

B. Krause et al., Dynamic evaluation of neural sequence models, 2018: each chunk of the split is
predicted first, then the model is trained on it with one step of SGD at that learning rate. Prints
static and dynamic nats per character (docs/recipes.md). For runs with `data.batching=stream`; the
table of n-grams is not updated.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from trek_lm.data.batching import IGNORE, StreamBatches
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.generation.api import CharLM
from trek_lm.models.state import State, detach
from trek_lm.runs.folder import BEST, CONFIG


def nats(folder: Path, split: str, rate: float) -> float:
    """Nats per character of that split of the run's text; a learning rate of 0 is static."""
    data: TranscriptDataModule = instantiate(OmegaConf.load(folder / CONFIG).data)
    data.prepare_data()
    data.setup()
    model = CharLM.load(folder / BEST).model
    trained = [p for name, p in model.named_parameters() if not name.startswith("ngrams")]
    optimizer = torch.optim.SGD(trained, rate)
    state: State | None = None
    total = 0.0
    if not data.has(split):
        sys.exit(f"error: {folder}: its data has no {split} split; see data.{split}_fraction")
    batches = {"val": data.val_dataloader, "test": data.test_dataloader}[split]()
    if not isinstance(batches, StreamBatches):
        sys.exit(f"error: {folder}: not trained with data.batching=stream")
    for batch in batches:
        with torch.set_grad_enabled(rate > 0):
            logits, state = model(batch.inputs, state)
        state = detach(state)
        loss = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        total += float(loss.detach())
        if rate:
            model.zero_grad()
            (loss / batch.characters).backward()
            clip_grad_norm_(trained, 1.0)
            optimizer.step()
    return total / data.characters[split]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dynamic")
    parser.add_argument("split", choices=("val", "test"))
    parser.add_argument("rate", type=float)
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    if not 0 < given.rate < math.inf:
        parser.error(f"RATE: {given.rate} is not a learning rate; give a number above 0")
    print("| run | static | dynamic |")
    print("|---|---:|---:|")
    for folder in given.folders:
        static, dynamic = (nats(folder, given.split, rate) for rate in (0.0, given.rate))
        print(f"| {folder} | {static:.4f} | {dynamic:.4f} |")


if __name__ == "__main__":
    main()
