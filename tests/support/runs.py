"""The contents of run folders, and folders of made-up runs."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginEventAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from tests.support.training import TIMED
from trek_lm.runs.folder import write_metrics
from trek_lm.runs.leaderboard import Leaderboard

CONFIG = {
    "seed": 1,
    "model": {"hidden": 256, "layers": 1},
    "optim": {"lr": 0.01},
    "data": {"seed": "${seed}", "epochs": 16},
    "trainer": {"max_epochs": "${data.epochs}"},
}
CHOICES = {"optim": "adamw", "data": "bundled", "experiment": None}

Metrics = dict[str, Any]
Table = list[dict[str, str]]


def events_of(folder: Path) -> EventAccumulator:
    """What a run logged for TensorBoard."""
    (events_folder,) = {path.parent for path in folder.glob("**/events.out.tfevents.*")}
    return EventAccumulator(str(events_folder), size_guidance={"tensors": 0, "scalars": 0}).Reload()


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on kills: checkpoints, metrics, lines, curves."""
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("last", "best")
    )
    # As TensorBoard reads them: scalars and texts are tensors.
    (events_folder,) = {path.parent for path in folder.glob("**/events.out.tfevents.*")}
    events = PluginEventAccumulator(str(events_folder), size_guidance={"tensors": 0})
    events.Reload()
    curves = {
        tag: [
            (event.step, make_ndarray(event.tensor_proto).tolist()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
        if tag not in TIMED
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "ranks", "TranscriptDataModule")
    return {
        **{key: last[key] for key in kept},
        "best": best["state_dict"],
        "metrics": {k: v for k, v in metrics.items() if "second" not in k},
        "samples": (folder / "samples.txt").read_text(),
        "curves": curves,
    }


def write_run(
    folder: Path, *overrides: str, metrics: Metrics | None = None, **choices: str
) -> Path:
    """A run's folder with its settings; `choices` are options not selected by an override."""
    keys = [override.lstrip("+").partition("=") for override in overrides]
    chosen = CHOICES | choices | {key: value for key, _, value in keys if key in CHOICES}
    dotted = [f"{key}={value}" for key, _, value in keys if key not in CHOICES]
    config = OmegaConf.merge(CONFIG, OmegaConf.from_dotlist(dotted))
    (folder / ".hydra").mkdir(parents=True)
    for name, content in (
        ("config", config),
        ("overrides", list(overrides)),
        ("hydra", {"hydra": {"runtime": {"choices": chosen}}}),
    ):
        (folder / ".hydra" / f"{name}.yaml").write_text(OmegaConf.to_yaml(content))
    if metrics is not None:
        write_metrics(folder, {"status": "finished", "reason": None} | metrics)
    return folder


def val(loss: float, **others: Any) -> Metrics:
    return {"val/loss": loss, **others}


def tables(text: str) -> list[Table]:
    """Each Markdown table; a row is a dict of its cells by column."""
    found = []
    for part in text.split("\n\n"):
        if part.startswith("|"):
            head, _, *rows = (
                [cell.strip() for cell in line.strip("|").split(" | ")]
                for line in part.splitlines()
            )
            found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def board_of(folder: Path) -> Table:
    return tables(Leaderboard.of([folder]).text(folder))[0]


def column(table: Table, name: str) -> list[str]:
    return [row[name] for row in table]
