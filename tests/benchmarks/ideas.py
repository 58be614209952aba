"""The ablations of docs/ablations.md: each idea against the recipe, in equal time, three seeds.

`python -m tests.benchmarks.ideas RECIPE [IDEA...] [KEY=VALUE...]`, such as `data.root=FOLDER`.
Runs two ideas at a time, on one core each, and evaluates them on text held out from the training
split; the test split is not used. A row has the mean validation loss and accuracy, with minimum
and maximum in brackets. Interrupted sweeps resume, in outputs/ideas. Code that only an idea needs
is in this file.
"""

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Muon, Optimizer

from tests.benchmarks.recipes import folder_name, result_overrides, spread, train_seeds
from trek_lm.models.cells import CELLS
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.native.sequences import NativeLSTM
from trek_lm.models.state import LayersState, State
from trek_lm.runs.folder import read_metrics
from trek_lm.training.optim import Joined

HERE = "tests.benchmarks.ideas"
OF_THESE_CELLS = f"model._target_={HERE}.RecurrentLM"  # imports this file, which adds cells
# The budget of each idea, and the held-out fraction.
GIVEN = {
    "fast": "budget=60s data.val_fraction=0.07",
    "fast_shakespeare": "budget=60s data.val_fraction=0.05",
    "best": "budget=20m data.val_fraction=0.07",
    "best_shakespeare": "budget=10m data.val_fraction=0.05",
}
IDEAS = {
    "fast": {
        "the recipe": "",
        "float32": "trainer.precision=32-true",
        "1 x 256": "model.hidden=256",
        "1 x 512": "model.hidden=512",
        "2 x 256": "model.hidden=256 model.layers=2",
        "2 x 256, residual": f"{OF_THESE_CELLS} model.cell=residual model.hidden=256",
        "GRU": "model=gru",
        "orthogonal recurrent weights": f"model._target_={HERE}.orthogonal",
        "forget gate open at first": f"model._target_={HERE}.forget_gate_open",
        "layer normalisation before the head": f"{OF_THESE_CELLS} model.cell=normalised",
        "head tied to the embedding": f"model._target_={HERE}.tied model.head=linear "
        "model.embedding=384",
        "one-hot characters": "model.embedding=onehot",
        "the write-up's head": "model.head=writeup",
        "dropout 0.1": "model.dropout=0.1",
        "variational dropout 0.1 on the outputs": f"model._target_={HERE}.variational "
        "model.head=linear",
        "weight drop 0.2": "model.weight_drop=0.2",
        "n-grams to 5": "model.ngrams=5",
        "16 lines a batch": "data.batch_size=16",
        "48 lines a batch": "data.batch_size=48",
        "every batch counts the same": "data.weigh_by=batches",
        "cosine instead of linear decay": (
            "optim.schedule._target_=trek_lm.training.schedules.cosine"
        ),
        "Adam's usual betas": "optim.optimizer.betas=[0.9,0.999]",
        "no warm-up": "optim.schedule.warmup=0",
        "no clipping of gradients": "trainer.gradient_clip_val=null",
        "AdaGrad": "optim=adagrad optim.lr=0.05",
        "SGD": "optim=sgd optim.lr=1",
        "Muon on the recurrent weights": f"optim.optimizer._target_={HERE}.muon",
        "NAdam": "optim.optimizer._target_=torch.optim.NAdam "
        "+optim.optimizer.decoupled_weight_decay=true",
        "weights averaged": "+callbacks.average._target_="
        "pytorch_lightning.callbacks.EMAWeightAveraging +callbacks.average.decay=0.98",
        "weights averaged over the last quarter, at a constant rate": "optim.schedule.final=1 "
        f"+callbacks.average._target_={HERE}.AveragedEnd",
        # A budget is measured in the first epoch; these steps read as many lines as it fits at 16.
        "16 lines a batch, 32 from the second epoch on": "budget=null trainer.max_steps=1530 "
        "data.batch_size=16 +callbacks.grow.scheduling={0:1,1:2} "
        "+callbacks.grow._target_=pytorch_lightning.callbacks.GradientAccumulationScheduler",
        "linear head": "model.head=linear",
    },
    "fast_shakespeare": {
        "the recipe": "",
        "no n-grams": "model.ngrams=0",
        "n-grams never dropped": "model.ngram_dropout=0",
        "no matches": "model.matches=[]",
        "neither": "model.ngrams=0 model.matches=[]",
        "one match, of 5 characters": "model.matches=[5]",
        "matches that always count the same": f"model._target_={HERE}.constant_gates",
        "128 characters a step": "data.sequence_length=128",
        "32 characters a step": "data.sequence_length=32",
        "each step from a zero state": f"model._target_={HERE}.Forgetful",
        "dropout 0.3": "model.dropout=0.3",
        "weight drop 0.2": "model.weight_drop=0.2",
        "2 x 224": "model.hidden=224 model.layers=2",
        "GRU": "model=gru",
        "orthogonal recurrent weights": f"model._target_={HERE}.orthogonal",
        "forget gate open at first": f"model._target_={HERE}.forget_gate_open",
        "Muon on the recurrent weights": f"optim.optimizer._target_={HERE}.muon",
        "factored head": "model.head=factored",
        "AdaGrad for the n-grams at 0.1": "optim.tables.lr=0.1",
        "AdaGrad for the n-grams at 0.4": "optim.tables.lr=0.4",
    },
    "best": {
        "the recipe": "",
        "1 x 512": "model.hidden=512",
        "1 x 1024": "model.hidden=1024",
        "2 x 512": "model.hidden=512 model.layers=2",
        "no dropout": "model.dropout=0",
        "dropout 0.4": "model.dropout=0.4",
        "weight drop 0.2": "model.weight_drop=0.2",
        "no n-grams": "model.ngrams=0",
        "n-grams never dropped": "model.ngram_dropout=0",
        "n-grams, most of them dropped": "model.ngram_dropout=0.7",
        "factored head": "model.head=factored",
        "weight decay 0.03": "optim.optimizer.weight_decay=0.03",
        "learning rate 0.012": "optim.lr=0.012",
        "learning rate 0.024": "optim.lr=0.024",
    },
    "best_shakespeare": {
        "the recipe": "",
        "1 x 320": "model.hidden=320",
        "dropout 0.1": "model.dropout=0.1",
        "dropout 0.4": "model.dropout=0.4",
        "no weight drop": "model.weight_drop=0",
        "weight drop 0.1": "model.weight_drop=0.1",
        "weight drop 0.3": "model.weight_drop=0.3",
        "no n-grams": "model.ngrams=0",
        "n-grams never dropped": "model.ngram_dropout=0",
        "n-grams, half of them dropped": "model.ngram_dropout=0.5",
        "n-grams, most of them dropped": "model.ngram_dropout=0.85",
        "no matches": "model.matches=[]",
        "factored head": "model.head=factored",
        "weight decay 0.03": "optim.optimizer.weight_decay=0.03",
        "weight decay 0.2": "optim.optimizer.weight_decay=0.2",
        "learning rate 0.012": "optim.lr=0.012",
        "learning rate 0.024": "optim.lr=0.024",
    },
}


def orthogonal(**arguments: Any) -> RecurrentLM:
    """Initializes each gate's recurrent weights orthogonally (A. Saxe et al., 2014)."""
    model = RecurrentLM(**arguments)
    for name, weight in model.recurrent.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.detach().split(weight.shape[1]):
                nn.init.orthogonal_(gate)
    return model


def forget_gate_open(**arguments: Any) -> RecurrentLM:
    """Initializes the forget gate's bias to 1 (R. Jozefowicz et al., 2015)."""
    model = RecurrentLM(**arguments)
    for name, bias in model.recurrent.named_parameters():
        if name.startswith("bias_ih"):
            bias.detach().chunk(4)[1].fill_(1.0)
    return model


def tied(**arguments: Any) -> RecurrentLM:
    """Ties the head's weights to the embedding (O. Press and L. Wolf, 2017)."""
    model = RecurrentLM(**arguments)
    assert isinstance(model.head, nn.Linear)
    nn.init.normal_(model.embedding.weight, std=arguments["hidden"] ** -0.5)
    model.head.weight = model.embedding.weight
    return model


class VariationalHead(nn.Linear):
    """Drops a tenth of its inputs, one mask per line (Y. Gal and Z. Ghahramani, 2016)."""

    def forward(self, outputs: Tensor) -> Tensor:
        kept = functional.dropout(torch.ones_like(outputs[:1]), 0.1, self.training)  # (1, B, H)
        return super().forward(outputs * kept)


def variational(**arguments: Any) -> RecurrentLM:
    """One dropout mask per line instead of one per character."""
    model = RecurrentLM(**arguments)
    model.head = VariationalHead(arguments["hidden"], arguments["vocab_size"])
    return model


def constant_gates(**arguments: Any) -> RecurrentLM:
    """The weight of a match doesn't depend on the recurrent layers."""
    model = RecurrentLM(**arguments)
    assert model.matches is not None
    model.matches.gates.weight.requires_grad_(False)
    return model


class Forgetful(RecurrentLM):
    """In training, starts each chunk of a stream from a zero recurrent state."""

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if self.training and state is not None:
            state = state._replace(recurrent=tuple(map(torch.zeros_like, state.recurrent)))
        return super().forward(ids, state)


class Residual(nn.Module):
    """Two LSTM layers with a residual connection around the second; without an input table."""

    def __init__(self, size: int, hidden: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.below, self.above = NativeLSTM(size, hidden), NativeLSTM(hidden, hidden)

    def forward(
        self, inputs: Tensor, state: LayersState | None = None
    ) -> tuple[Tensor, LayersState]:
        first, second = (None, None) if state is None else (state[:2], state[2:])
        below, first = self.below(inputs, first)
        above, second = self.above(below.float(), second)  # NativeLSTM doesn't accept bf16
        return below + above, (*first, *second)


class Normalised(nn.Module):
    """An LSTM whose outputs are normalised (J. Ba et al., Layer normalization, 2016)."""

    def __init__(self, size: int, hidden: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.norm = NativeLSTM(size, hidden), nn.LayerNorm(hidden)

    def forward(
        self, inputs: Tensor, state: LayersState | None = None
    ) -> tuple[Tensor, LayersState]:
        outputs, state = self.lstm(inputs, state)
        return self.norm(outputs), state


for name, made in {"residual": Residual, "normalised": Normalised}.items():
    CELLS[name] = dict.fromkeys(CELLS["lstm"], made)


def muon(parameters: Iterable[nn.Parameter], **arguments: Any) -> Optimizer:
    """Muon (K. Jordan et al., 2024) for the recurrent weights, AdamW for the others."""
    own = list(parameters)
    recurrent = [p for p in own if p.dim() == 2 and p.shape[0] == 4 * p.shape[1]]
    if not recurrent:  # only the arguments are being checked
        return AdamW(own, **arguments)
    others = [p for p in own if all(p is not other for other in recurrent)]
    return Joined([AdamW(others, **arguments), Muon(recurrent, lr=0.02, momentum=0.9)])


class AveragedEnd(WeightAveraging):
    """The mean of the weights after each of the last quarter's steps (P. Izmailov et al., 2018)."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = 0.75 * trainer.max_steps

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= self.begin


def train_idea(recipe: str, idea: str, overrides: list[str]) -> list[dict[str, Any]]:
    """Trains an idea on one core and returns its runs' metrics."""
    folder = f"ideas/{recipe}/{folder_name(idea, *result_overrides(overrides))}"
    quiet = ("callbacks.dashboard.lines=0", "+trainer.limit_test_batches=0")
    given = (*GIVEN[recipe].split(), *quiet, *overrides, *IDEAS[recipe][idea].split())
    runs = train_seeds(recipe, *given, folder=folder, OMP_NUM_THREADS="1")
    return [read_metrics(run) for run in runs]


def main() -> None:
    overrides = [argument for argument in sys.argv[2:] if "=" in argument]
    recipe, wanted = sys.argv[1], [name for name in sys.argv[2:] if "=" not in name]
    if recipe not in IDEAS:
        sys.exit(f"error: {recipe}: choose one of {', '.join(IDEAS)}")
    ideas = wanted or list(IDEAS[recipe])
    if unknown := set(ideas) - set(IDEAS[recipe]):
        sys.exit(f"error: {unknown.pop()}: choose among {', '.join(IDEAS[recipe])}")
    with ThreadPoolExecutor(2) as pool:
        metrics = list(pool.map(lambda idea: train_idea(recipe, idea, overrides), ideas))
    print("| idea | overrides | steps | seconds | val loss | val acc |")
    print("|---|---|---:|---:|---:|---:|")
    for idea, runs in zip(ideas, metrics, strict=True):
        loss, accuracy = (spread([run[key] for run in runs]) for key in ("val/loss", "val/acc"))
        steps = f"{mean(run['steps'] for run in runs):,.0f}"
        seconds = spread([run["train_seconds"] for run in runs], "{:,.0f}")
        overridden = f"`{IDEAS[recipe][idea]}`" if IDEAS[recipe][idea] else ""
        print("|", " | ".join([idea, overridden, steps, seconds, loss, accuracy]), "|")


if __name__ == "__main__":
    main()
