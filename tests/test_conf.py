"""The configs of conf/: experiments compose; the groups callbacks, paths and debug work."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import sample
import train
from tests.support.commands import RunHere
from trek_lm.overrides import CONF

DEBUG = sorted(path.stem for path in (CONF / "debug").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize(
    ("experiment", "optim", "lr"),
    [
        *(("fast", "AdamW", 0.024), ("best", "AdamW", 0.016), ("writeup", "SGD", 0.45)),
        *(("fast_shakespeare", "AdamW", 0.024), ("best_shakespeare", "AdamW", 0.016)),
        *(("writeup_gru", "SGD", 0.3), ("writeup_adagrad", "Adagrad", 0.015)),
        ("writeup_gru_adagrad", "Adagrad", 0.007),
    ],
)
def test_optimizer_and_learning_rate_of_experiments(experiment: str, optim: str, lr: float) -> None:
    optimizer = composed(f"experiment={experiment}").optim.optimizer
    assert (optimizer._target_, optimizer.lr) == (f"torch.optim.{optim}", lr)


def test_callbacks_accept_a_list_of_options(tmp_path: Path) -> None:
    """Including an option of the user's; each option has its own key."""
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks/early_stopping.yaml").write_text(
        "early_stopping:\n  _target_: pytorch_lightning.callbacks.EarlyStopping\n"
        "  monitor: val/loss\n"
    )
    path = f"hydra.searchpath=[file://{tmp_path}]"
    names = ["progress", "gradient_guard", "dashboard"]
    assert list(composed().callbacks) == names
    assert list(composed("callbacks=[dashboard,progress]").callbacks) == ["dashboard", "progress"]
    callbacks = composed(path, "callbacks=[default,early_stopping]").callbacks
    assert list(callbacks) == [*names, "early_stopping"]
    assert list(composed("callbacks=writeup").callbacks) == [*names, "report"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; restores the log level afterwards."""
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger().level
    yield tmp_path
    logging.getLogger().setLevel(level)


@pytest.mark.parametrize("option", DEBUG)
def test_debug_runs_finish(option: str, here: Path, corpus: Path, run_here: RunHere) -> None:
    """In outputs/debug/ and nowhere else."""
    small = ("model.hidden=64", "model.dropout=0", "model.embedding=8", "data.batch_size=2")
    run_here(train, f"debug={option}", "data=files", f"data.root={corpus}", *small)
    (folder,) = here.glob("outputs/debug/*/*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert (folder / "checkpoints/best.ckpt").is_file()
    assert [path.name for path in (here / "outputs").iterdir()] == ["debug"]
    assert (option == "profiler") == (folder / "fit-profile.txt").is_file()
    if option == "fdr":
        assert metrics["steps"] == 1
    if option == "overfit":
        assert metrics["train/acc"] > 0.9 > metrics["test/acc"]


def test_paths_outputs_moves_all_outputs(
    here: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "paths.outputs=it's, here"
    small = ("model.hidden=8", "trainer.max_steps=2", "data.batch_size=8")
    run_here(train, "data=files", f"data.root={corpus}", where, *small)
    (folder,) = here.glob("it's, here/*/*")
    run_here(train, "resume=latest", where, "trainer.max_steps=3")
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 3
    for key in ("paths.outputs", "outputs"):
        capsys.readouterr()
        run_here(sample, f"{key}=it's, here", "n=1")
        assert capsys.readouterr().out.count("\n") == 1
    with pytest.raises(SystemExit):
        run_here(train, "resume=latest")
    assert "resume=latest: no run in outputs/" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["it's, here"]
