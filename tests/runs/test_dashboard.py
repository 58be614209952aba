from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.support.commands import PROJECT
from trek_lm.errors import UserError
from trek_lm.runs.dashboard import Dashboard, TensorBoard, _cells, as_code, run_name
from trek_lm.runs.folder import read_curves


def name_of(*overrides: str) -> str:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    return run_name(config, config.hydra.runtime.choices, config.hydra.overrides.task)


def test_code_blocks_keep_text() -> None:
    assert as_code("a:\n  b: <i>[c](d)\n\ne") == "    a:\n      b: <i>[c](d)\n    \n    e"


@pytest.mark.parametrize("lines", [-1, 20_000_000, "x"])
def test_invalid_number_of_lines(lines: object) -> None:
    with pytest.raises(UserError, match=rf"callbacks\.dashboard\.lines={lines}: must be"):
        Dashboard(splits=["train"], lines=lines, temperature=0.5)


def test_long_lines_are_wrapped() -> None:
    assert as_code("word " * 30) == f"    {'word ' * 23}word\n      {'word ' * 5}word"


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("model=lstm", "lstm-256x1-adamw"),
        ("model=gru", "gru-256x1-adamw"),
        ("model.layers=3 optim=adagrad model.hidden=200", "lstm-200x3-adagrad"),
        ("seed=2 optim.lr=0.1 data=tos", "lstm-256x1-adamw-tos-seed=2-lr=0.1"),
        ("data=files data.root=/a/b data.charset=all", "lstm-256x1-adamw-files-charset=all"),
        ("+trainer.benchmark=5 ++optim.eps=1", "lstm-256x1-adamw-benchmark=5-eps=1"),
        ("data.series=[TOS,TNG]", "lstm-256x1-adamw-series=_TOS,TNG_"),
        ("experiment=writeup", "lstm-200x3-sgd_writeup"),
    ],
)
def test_run_name_has_model_optimizer_and_overrides(typed: str, name: str) -> None:
    assert name_of(*typed.split()) == name


def test_run_name_omits_settings_without_effect_on_the_model() -> None:
    silent = ("checkpoint.every_minutes=1", "hydra.verbose=true", "sweep=grid", "trainer=cpu")
    assert name_of(*silent, "logger=tensorboard", "~optim.schedule.warmup") == "lstm-256x1-adamw"


def test_run_name_is_a_valid_folder_name() -> None:
    """No path separator, and not longer than file systems allow."""
    name = name_of("data.labels='../x y'", f"data.format={'z' * 300}")
    assert name.startswith("lstm-256x1-adamw-labels=_.._x_y_-format=zzz")
    assert len(name) == 120


@pytest.mark.parametrize("error", [OSError("no room"), TypeError("no number")])
def test_disk_error_is_not_reported_as_a_bad_number(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    logger = TensorBoard(tmp_path, "lstm")
    monkeypatch.setattr(logger.experiment, "add_scalar", fail)
    expected = OSError if isinstance(error, OSError) else ValueError
    with pytest.raises(expected):
        logger.log_metrics({"val/loss": 1.0}, 1)


def test_hparams_are_numbers_or_words() -> None:
    """TensorBoard sorts a column of numbers or of words, not a mixed one."""
    settings = {
        **{"seed": 1, "optim.lr": 0.1, "optim": "sgd", "data.split": "line"},
        **{"model.embedding": 64, "trainer.devices": 2, "trainer.precision": 32},
        **{"trainer.enable_model_summary": True, "data.series": ["TOS", "TNG"]},
    }
    assert _cells(settings) == {
        **{"seed": 1, "optim.lr": 0.1, "optim": "sgd", "data.split": "line"},
        **{"model.embedding": "64", "trainer.devices": "2", "trainer.precision": "32"},
        **{"trainer.enable_model_summary": "True", "data.series": "['TOS', 'TNG']"},
    }
    assert type(_cells({"seed": 1})["seed"]) is int


def test_hparams_omit_uninformative_keys() -> None:
    settings = {
        **{"optim.lr": 0.1, "optim.optimizer.lr": 0.1, "optim.optimizer.weight_decay": 0.01},
        **{"optim.optimizer._target_": "torch.optim.AdamW", "data._target_": "x"},
        **{"data.source._partial_": True, "data.source.kind": "x", "trainer.plugins": ["y"]},
        **{"data.root": None, "trainer.gradient_clip_val": None},
    }
    assert _cells(settings) == {"optim.lr": 0.1, "optim.optimizer.weight_decay": 0.01}


def test_runs_inside_a_run_folder_are_ignored(tmp_path: Path) -> None:
    """As with `hydra.run.dir=.` in a folder that has an outputs/."""
    within = tmp_path / "outputs" / "first"
    for folder, loss in ((within, 7.0), (tmp_path, 1.0)):
        logger = TensorBoard(folder, "lstm-5x1")
        logger.log_metrics({"val/loss": loss}, 3)
        logger.finalize("success")
    assert read_curves(within) == {"val/loss": [(3, 7.0)]}
    assert read_curves(tmp_path) == {"val/loss": [(3, 1.0)]}
