"""Callback and profiler that `train_speed` adds to train.py: a plain loop, and a profile."""

import copy
import time
from collections import defaultdict
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import Profiler
from torch import nn
from torch.nn import functional

from trek_lm.data.batching import IGNORE, Batch
from trek_lm.training.metrics import CharMetrics
from trek_lm.training.module import CharModule

CHUNK = 10  # steps of one loop before the other one's turn
WARM_UP = 24  # chunks left out: the first epoch of `train_speed`
LONGEST = 300  # characters per line; few are longer


class Bare(Callback):
    """Repeats every few steps of the run in a plain loop, on a copy of the model."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, CharModule)
        self.model = copy.deepcopy(pl_module.model)
        self.optimizer = pl_module.make_optimizer(
            p for p in self.model.parameters() if p.requires_grad
        )
        self._prepare(trainer)
        self.batches: list[Batch] = []
        self.rates: list[tuple[float, float]] = []  # of both loops, per chunk

    def on_train_epoch_start(self, *_: Any) -> None:
        self.since = time.perf_counter()  # leaves out the time between epochs

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.batches.append(arguments[2])
        if len(self.batches) < CHUNK:
            return
        between = time.perf_counter()
        for batch in self.batches:
            self._step(batch, trainer.precision == "bf16-mixed", trainer.gradient_clip_val)
        end = time.perf_counter()
        characters = sum(batch.characters for batch in self.batches)
        self.rates.append((characters / (between - self.since), characters / (end - between)))
        self.batches.clear()
        self.since = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        rates = self.rates[WARM_UP:]
        loop, bare = (median(parts) / 1000 for parts in zip(*rates, strict=True))
        share = median(loop / bare for loop, bare in rates)
        print(f"step: full loop {loop:.1f}k chars/s, bare {bare:.1f}k, {share:.1%} of it")

    def _prepare(self, trainer: pl.Trainer) -> None:
        """Allocates memory, and builds oneDNN's kernels of the head for every line length.

        Otherwise the run would wait for both, a few milliseconds per line length in its first
        hundreds of steps, and the plain loop would not.
        """
        bf16 = trainer.precision == "bf16-mixed"
        lines = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        ids = torch.zeros(LONGEST, lines, dtype=torch.long)
        self._step(Batch(ids, ids, ids.numel(), False, ids.numel()), bf16, None)
        outputs = torch.zeros(LONGEST, lines, self.model.settings.hidden)
        for steps in range(1, LONGEST):
            part = outputs[:steps].to(torch.bfloat16 if bf16 else torch.float32).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                self.model.head(part).sum().backward()

    def _step(self, batch: Batch, bf16: bool, clip: float | None) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, _ = self.model(batch.inputs)
        loss = functional.cross_entropy(
            logits.float().flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE
        )
        self.optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()


class Profile(Profiler):
    """The share of a step's time in each of Lightning's actions."""

    PARTS = (  # a part that contains another comes first
        ("optimizer", "[LightningModule]CharModule.optimizer_step"),
        ("forward, loss", "[Strategy]SingleDeviceStrategy.training_step"),
        ("backward", "[Strategy]SingleDeviceStrategy.backward"),
        ("data", "[_TrainingEpochLoop].train_dataloader_next"),
    )

    def __init__(self, dirpath: None = None, filename: None = None) -> None:
        super().__init__(dirpath, filename)
        self._started: dict[str, float] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps = 0
        for what, owner, name in (
            ("metrics", CharMetrics, "update"),
            ("logging", CharModule, "_report"),
        ):
            setattr(owner, name, self._timed(what, getattr(owner, name)))

    def _timed(self, what: str, function: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.profile(what):
                return function(*arguments, **options)

        return timed

    def start(self, action_name: str) -> None:
        self._started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        self._seconds[action_name] += time.perf_counter() - self._started.pop(action_name)
        self._steps += action_name == "run_training_batch"

    def summary(self) -> str:
        return ""

    def teardown(self, stage: str | None) -> None:
        if stage != "fit" or not self._steps:
            return
        found = {part: self._seconds[name] for part, name in self.PARTS}
        metrics, logging = self._seconds["metrics"], self._seconds["logging"]
        inside = found["forward, loss"] + found["backward"]
        found["optimizer"] -= inside  # its closure runs those two
        found["forward, loss"] -= metrics + logging
        found |= {"metrics": metrics, "logging": logging}
        whole = self._seconds["run_training_epoch"]
        found["rest"] = whole - sum(found.values())
        parts = ", ".join(f"{part} {took / whole:.1%}" for part, took in found.items())
        print(f"step: {1000 * whole / self._steps:.1f} ms: {parts}")
