"""Finds a checkpoint: by path, in the folder of a run or a sweep, or the newest one."""

import os
from pathlib import Path

from trek_lm.errors import UserError
from trek_lm.files import expanded
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST, objective, read_metrics


def load_model(ckpt: str, outputs: str) -> CharLM:
    """The model that `ckpt` names: a file, a folder, or "latest" for the newest run in `outputs`.

    For a sweep's folder, the member with the best objective.

    Raises UserError if there is none, or if it isn't a checkpoint of trek-lm.
    """
    for key, value in (("ckpt", ckpt), ("outputs", outputs)):
        if not isinstance(value, str) or not value:
            raise UserError(f"{key}= is empty: see --help")
    if ckpt == "latest":
        return _newest(expanded(outputs))
    path = expanded(ckpt)
    if path.is_dir():
        path = path / BEST if (path / BEST).is_file() else _best_member(path)
    if not path.exists():
        raise UserError(f"ckpt={ckpt}: no such file or folder")
    return CharLM.load(path)


def _best_member(sweep: Path) -> Path:
    # With a / in hydra.sweep.subdir a sweep's runs are in nested folders.
    pattern = "**" if (sweep / "leaderboard.md").is_file() else "*"
    metrics = {best: read_metrics(best.parent.parent) for best in sweep.glob(f"{pattern}/{BEST}")}
    finished = [best for best in metrics if metrics[best].get("status") == "finished"]
    if not finished:
        raise UserError(f"ckpt={sweep}: neither a run with {BEST} nor a sweep with finished runs")
    return min(finished, key=lambda best: objective(metrics[best]))


def _newest(outputs: Path) -> CharLM:
    """The newest best.ckpt that loads."""
    found = sorted(outputs.glob(f"**/{BEST}"), key=os.path.getmtime, reverse=True)
    for path in found:
        try:
            return CharLM.load(path)
        except UserError:
            continue
    raise UserError(
        f"{outputs}: no trained run here; train one with python train.py, or give ckpt="
    )
