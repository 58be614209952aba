"""The LightningModule: loss, metrics and optimizer for any model from character ids to logits."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from trek_lm.data.batching import IGNORE, Batch
from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation.api import CharLM
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.state import State, detach, move
from trek_lm.training.distributed import mean_over_ranks
from trek_lm.training.lightning_internals import count_steps
from trek_lm.training.metrics import CharMetrics
from trek_lm.training.optim import (
    Joined,
    MakeOptimizer,
    MakeSchedule,
    check_optimizer,
    check_schedule,
)

log = logging.getLogger(__name__)


class CharModule(pl.LightningModule):
    """Trains and evaluates a character model.

    The hidden state is carried from batch to batch, detached, if the batch asks for it
    (`Batch.carry`). A checkpoint has `CharLM.metadata` under "trek_lm", to rebuild the model.
    """

    def __init__(
        self,
        model: RecurrentLM,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        tables: MakeOptimizer | None = None,
        *,
        charset: Charset,
        speakers: Mapping[str, int],
    ) -> None:
        """`optimizer` is called with the parameters; `schedule` with the optimizer, the run's
        steps and an epoch's steps, and is stepped once per optimizer step. `tables` makes the
        optimizer of the n-gram table, if the model has one.
        """
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.make_schedule = schedule
        self.make_table_optimizer = tables
        self.charset = charset
        self.speakers = dict(speakers)
        self.metrics = nn.ModuleDict(
            {stage: CharMetrics(finite=stage == "fit") for stage in ("fit", "val", "test")}
        )  # in training, without the batches that gradient_guard.py rejects
        # Read by DistributedDataParallel; `mean_over_ranks` averages this gradient instead.
        self._ddp_params_and_buffers_to_ignore = ["model.ngrams.table.weight"]
        self.states: dict[str, State] = {}  # per stage: validation must not change training's

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        logits, state = self.model(ids, state)
        return logits, state

    def on_fit_start(self) -> None:
        if self.model.ngrams is not None and self.trainer.world_size > 1:
            self.model.ngrams.table.weight.register_hook(mean_over_ranks)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss_sum = self._step(batch, "fit")
        # DDP averages over ranks, which makes this the sum over all ranks / divisor.
        loss = loss_sum * (self.trainer.world_size / batch.divisor)
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 and self.reports_step():
            characters = (batch.targets != IGNORE).sum().clamp(min=1)
            self._report({"train/loss_step": loss_sum.detach() / characters}, self.global_step + 1)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if not self.reports_step():
            return
        gradients = [p.grad for p in self._trained(tables=False) if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)  # before clipping
        rate = optimizer.param_groups[0]["lr"]
        self._report({"train/gradient_norm": norm, "train/lr": rate}, self.global_step + 1)

    def on_train_batch_end(self, *_: Any) -> None:
        # If the run ends within an epoch, this makes Lightning validate it there.
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "test")

    def on_train_epoch_end(self) -> None:
        self.log_now(self.scores("fit"))

    def on_validation_epoch_end(self) -> None:
        scores = self.scores("val")
        if not self.trainer.sanity_checking:
            self.log_now(scores)

    def on_test_epoch_end(self) -> None:
        # Logged one step later, so that a run resumed from its last step replaces it.
        self.log_now(self.scores("test"), self.global_step + 1)

    def check(self, batching: str) -> None:
        """Raises UserError for settings at which `trainer.fit` would fail, with log files open."""
        if self.model.matches is not None and batching == "lines":
            log.warning(
                "model.matches: with data.batching=lines each line starts with an empty table; "
                "add data.batching=stream"
            )
        check_optimizer("optim", self.make_optimizer, torch.zeros(1))
        check_schedule(self.make_schedule)
        if self.make_table_optimizer is not None:
            check_optimizer("optim.tables", self.make_table_optimizer, torch.zeros(1).to_sparse())
        elif self.model.ngrams is not None:
            raise UserError("model.ngrams needs optim.tables: see conf/optim/default.yaml")

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self._trained(tables=False))
        if self.model.ngrams is not None and self.make_table_optimizer is not None:
            optimizer = Joined([optimizer, self.make_table_optimizer(self._trained(tables=True))])
        schedule = self.make_schedule(optimizer, *count_steps(self.trainer))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # torch has no norm of the table's sparse gradient; AdaGrad needs no clipping.
        if self.model.ngrams is not None and isinstance(optimizer, Joined):
            optimizer = optimizer.optimizers[0]
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trek_lm"] = self.as_char_lm().metadata()

    def in_flight(self) -> dict[str, Any]:
        """This rank's metrics of the current epoch and its carried state."""
        carried = self.states.get("fit")
        return {
            "metrics": self.metrics_of("fit").sums.cpu().clone(),
            "carried": None if carried is None else move(carried, torch.device("cpu"))._asdict(),
        }

    def restore_in_flight(self, state: dict[str, Any]) -> None:
        """Restores what `in_flight` returned."""
        self.metrics_of("fit").sums = state["metrics"].to(self.device)
        if state["carried"] is not None:
            self.states["fit"] = move(State(**state["carried"]), self.device)

    def log_now(self, values: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Logs an epoch's values, and sends them to the loggers at once, by default at this step.

        Lightning sends them after the epoch's checkpoint is written: a run killed in between and
        resumed from that checkpoint would lack them.
        """
        self.log_dict(dict(values), logger=False)  # for callbacks
        self._report(values, self.global_step if step is None else step)

    def _trained(self, *, tables: bool) -> list[nn.Parameter]:
        """The trained parameters of the n-gram table, or all others."""
        ngrams = self.model.ngrams
        own = set() if ngrams is None else set(ngrams.parameters())
        return [p for p in self.model.parameters() if p.requires_grad and (p in own) == tables]

    def reports_step(self) -> bool:
        """Whether the current step is logged."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return bool(every) and (self.global_step + 1) % every == 0

    def _report(self, values: Mapping[str, float | Tensor], step: int) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        for logger in self.loggers:
            logger.log_metrics(numbers, step)

    def metrics_of(self, stage: str) -> CharMetrics:
        """The running metrics of "fit", "val" or "test"."""
        return cast(CharMetrics, self.metrics[stage])

    def scores(self, stage: str, reset: bool = True) -> dict[str, Tensor]:
        """The metrics of "fit", "val" or "test" over all ranks, by the names they are logged under.

        Every rank must call it. `reset` clears the sums afterwards.
        """
        metrics, split = self.metrics_of(stage), "train" if stage == "fit" else stage
        scores = {f"{split}/{key}": value for key, value in metrics.compute().items()}
        if reset:
            metrics.reset()
        return scores

    def as_char_lm(self) -> CharLM:
        """The current model for generation; it shares the weights."""
        return CharLM(self.model, self.charset, self.speakers)

    def _step(self, batch: Batch, stage: str) -> Tensor:
        """Runs the model, stores its state, updates the metrics; returns the loss sum."""
        logits, state = self.model(batch.inputs, self.states[stage] if batch.carry else None)
        self.states[stage] = detach(state)
        logits = logits.float()  # bf16 under autocast
        loss_sum = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        self.metrics_of(stage).update(loss_sum.detach(), logits.detach(), batch.targets)
        return loss_sum
