"""What `metrics.json` says of a run at its end, but for what made it."""

import math
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.training.progress import Recorder


def figures(
    config: DictConfig,
    trainer: pl.Trainer,
    data: TranscriptDataModule,
    callbacks: dict[str, Any],
) -> dict[str, Any]:
    """Flat, as plain numbers and strings; what a run doesn't have, or isn't finite, is None."""
    recorder: Recorder = callbacks["recorder"]
    test = {name: float(value) for name, value in trainer.callback_metrics.items()}
    scores = test | recorder.train | recorder.val  # val: of the best epoch, not of the last
    module = trainer.lightning_module
    diverged = not all(map(math.isfinite, scores.values()))
    named = {
        f"{part}/{name}": _finite(scores.get(f"{part}/{name}"))
        for part in ("train", "val", "test")
        for name in ("loss", "acc", "bpc", "perplexity")
    }
    return named | {
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "engine": module.engine,
        "precision": trainer.precision,
        "epochs": recorder.epochs,
        "steps": trainer.global_step,
        "max_steps": None if trainer.max_steps == -1 else trainer.max_steps,
        "budget": config.budget,
        "train_seconds": round(recorder.train_seconds, 3),
        "chars_per_second": round(recorder.chars_per_second, 1),
        "corpus": data.corpus.name,
        "corpus_sha256": data.corpus.sha256,
        **{f"{part}_chars": count for part, count in data.characters.items()},
        "seed": config.seed,
        "skipped_steps": getattr(callbacks.get("gradient_guard"), "skipped", 0),
        "status": "failed" if diverged else "finished",
        "reason": "training diverged: its loss or perplexity is not finite" if diverged else None,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
