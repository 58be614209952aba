import json
import os
import shutil
from pathlib import Path

import pytest

from trek_lm.errors import UserError
from trek_lm.runs.find_model import load_model


def test_model_is_found_by_file_folder_and_latest(run_folder: Path) -> None:
    best = run_folder / "checkpoints" / "best.ckpt"
    first = load_model(str(best), "unused").generate(n=2, seed=1)
    assert load_model(str(run_folder), "unused").generate(n=2, seed=1) == first
    assert load_model("latest", str(run_folder.parent.parent)).generate(n=2, seed=1) == first


def test_latest_is_the_newest_run_that_loads(run_folder: Path, tmp_path: Path) -> None:
    good = tmp_path / "2026-01-01" / "10-00-00" / "checkpoints"
    broken = tmp_path / "2026-01-02" / "10-00-00" / "checkpoints"
    for folder in (good, broken):
        folder.mkdir(parents=True)
    shutil.copy(run_folder / "checkpoints" / "best.ckpt", good)
    (broken / "best.ckpt").write_bytes(b"half a checkpoint")
    os.utime(good / "best.ckpt", (0, 0))
    (tmp_path / "2026-01-03" / "10-00-00" / ".hydra").mkdir(parents=True)  # a run that failed
    assert load_model("latest", str(tmp_path)).generate(n=1, seed=1)


def test_sweep_gives_its_best_run(run_folder: Path, tmp_path: Path) -> None:
    """By validation loss, or train loss without validation; unfinished runs do not count."""
    best = run_folder / "checkpoints" / "best.ckpt"
    metrics = json.loads((run_folder / "metrics.json").read_text())
    losses = {"0": (1.5, 1.4), "1": (None, 1.2), "2": (1.3, 1.1), "3": (0.9, 0.9)}
    for member, (val, train) in losses.items():
        (tmp_path / member / "checkpoints").mkdir(parents=True)
        good = shutil.copy(best, tmp_path / member / "checkpoints")
        status = "failed" if member == "3" else "finished"
        changed = metrics | {"val/loss": val, "train/loss": train, "status": status}
        (tmp_path / member / "metrics.json").write_text(json.dumps(changed))
        if member != "1":
            Path(good).write_bytes(b"not this one")
    assert load_model(str(tmp_path), "unused").generate(n=1, seed=1)


def test_sweep_with_nested_folders(run_folder: Path, tmp_path: Path) -> None:
    for member in ("lstm/1", "gru/1"):
        shutil.copytree(run_folder, tmp_path / member)
    with pytest.raises(UserError, match="nor a sweep"):  # a folder of runs that are no sweep
        load_model(str(tmp_path), "unused")
    (tmp_path / "leaderboard.md").touch()
    assert load_model(str(tmp_path), "unused").generate(n=1, seed=1)


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained run here; train one"):
        load_model("latest", str(tmp_path))
    with pytest.raises(UserError, match="no such file or folder"):
        load_model(str(tmp_path / "run" / "best.ckpt"), "unused")
    with pytest.raises(UserError, match="neither a run with"):
        load_model(str(tmp_path), "unused")
