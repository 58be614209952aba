"""The run folder: what a run leaves there, and how a run is found again."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from trek_lm.callbacks import Recorder, as_code, writer
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.generation import CharLM

log = logging.getLogger(__name__)

# The columns of TensorBoard's HParams table. It takes them from the first run it reads, so
# every run logs the same ones; a key that its config lacks is left empty.
HPARAMS = (
    *("seed", "model.hidden", "model.layers", "model.dropout", "model.embedding", "model.head"),
    *("optim.lr", "data.split", "data.charset", "data.batching", "data.batch_size"),
    *("trainer.max_epochs", "trainer.precision"),
)
CHOICES = ("model", "optim", "data")
FINAL = ("val/loss", "val/acc", "val/bpc", "test/loss", "test/acc", "test/bpc")


class Run:
    """One run's folder: `.hydra/`, TensorBoard's events, and

    - `checkpoints/best.ckpt`, `checkpoints/last.ckpt`
    - `metrics.json`: final numbers, flat
    - `samples.txt`: lines that the best checkpoint generates
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def best(self) -> Path:
        """The checkpoint that is tested and sampled from."""
        return self.folder / "checkpoints" / "best.ckpt"

    def finish(
        self,
        config: DictConfig,
        trainer: pl.Trainer,
        data: TranscriptDataModule,
        callbacks: dict[str, Any],
    ) -> dict[str, Any]:
        """Writes down how a run ended, tells the terminal, and gives the final metrics."""
        recorder: Recorder = callbacks["recorder"]
        metrics = _metrics(config, trainer, data, recorder)
        if trainer.is_global_zero:
            lines = CharLM.load(self.best).generate(n=10, seed=config.seed)
            _log_hparams(config, trainer, metrics, lines)
            _write(self.folder / "samples.txt", "\n".join(lines) + "\n")
            _write(self.folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
            self._tell(metrics, lines[:3])
        return metrics

    def _tell(self, metrics: dict[str, Any], lines: list[str]) -> None:
        if metrics["test/acc"] is not None:
            log.info(
                "test accuracy %.4f, %.3f bits per character",
                metrics["test/acc"],
                metrics["test/bpc"],
            )
        for line in lines:
            log.info("    %s", line)
        here = Path.cwd()
        folder = self.folder.relative_to(here) if here in self.folder.parents else self.folder
        log.info("run folder:  %s", folder)
        log.info("more lines:  python sample.py ckpt=%s", folder)
        log.info(
            "dashboard:   tensorboard --logdir %s",
            folder if folder.is_absolute() else folder.parts[0],
        )


def _metrics(
    config: DictConfig, trainer: pl.Trainer, data: TranscriptDataModule, recorder: Recorder
) -> dict[str, Any]:
    """The content of `metrics.json`; what a run doesn't have is null."""
    scores = recorder.train | recorder.val
    scores |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    module = trainer.lightning_module
    named = {
        f"{part}/{name}": scores.get(f"{part}/{name}")
        for part in ("train", "val", "test")
        for name in ("loss", "acc", "bpc", "perplexity")
    }
    if any(value is not None and not math.isfinite(value) for value in named.values()):
        status, reason = "failed", "loss is not finite"
    else:
        status, reason = "finished", None
    return named | {
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "epochs": recorder.epochs,
        "train_seconds": round(recorder.train_seconds, 3),
        "chars_per_second": round(recorder.chars_per_second, 1),
        "corpus": data.corpus.name,
        "corpus_sha256": data.corpus.sha256,
        **{f"{part}_chars": count for part, count in data.characters.items()},
        "seed": config.seed,
        "status": status,
        "reason": reason,
    }


def _log_hparams(
    config: DictConfig, trainer: pl.Trainer, metrics: dict[str, Any], lines: list[str]
) -> None:
    board = writer(trainer)
    if board is None:
        return
    board.add_text("final lines", as_code("\n".join(lines)), trainer.global_step)
    choices = HydraConfig.get().runtime.choices
    hparams: dict[str, Any] = {key: str(choices[key]) for key in CHOICES}
    for key in HPARAMS:
        value = OmegaConf.select(config, key)
        hparams[key] = value if isinstance(value, int | float) else str(value or "")
    # Under names of their own: as val/loss they would be one more point on that curve.
    final = {f"final/{key}": math.nan if metrics[key] is None else metrics[key] for key in FINAL}
    assert trainer.logger is not None
    trainer.logger.log_hyperparams(hparams, final, trainer.global_step)
    trainer.logger.save()


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
