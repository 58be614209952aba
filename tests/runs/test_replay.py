"""`resume=`: the command line that it replays."""

import shutil
from pathlib import Path

import pytest

import train
from tests.support.commands import PROJECT, RunHere
from trek_lm.errors import UserError
from trek_lm.runs.replay import replay


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("key", ["resume", "+resume", "++resume"])
def test_resume_key_with_plus_signs(finished: Path, key: str) -> None:
    assert replay([f"{key}={finished}"]) == replay([f"resume={finished}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.hidden=5"], r"model\.hidden: fixed when the run began"),
        (["data=bundled"], "data: fixed when the run began"),
        (["+data.sequence_length=5"], r"data\.sequence_length: fixed"),
        (["seed=5"], "seed: fixed"),
        (["optim.lr=5"], r"optim\.lr: fixed"),
        (["hydra.run.dir=x"], r"hydra\.run\.dir: fixed"),
        (["~data.sequence_length"], r"data\.sequence_length: fixed"),
        (["-m"], "resume continues one run"),
    ],
)
def test_fixed_settings_are_refused(finished: Path, arguments: list[str], message: str) -> None:
    before = contents(finished)
    with pytest.raises(UserError, match=message):
        replay([f"resume={finished}", *arguments])
    assert before == contents(finished)


def test_hydra_options_are_not_stored(
    finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run_here(train, f"resume={finished}", "--cfg", "job", "-p", "model")
    assert "hidden: 12" in capsys.readouterr().out
    replay([f"resume={finished}", "hydra.verbose=true"])


def test_changed_config_is_named(finished: Path) -> None:
    path = finished / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("dropout: 0.25", "dropout: 0.5"))
    with pytest.raises(UserError, match=r"conf/ has changed .*model\.dropout: 0\.5 -> 0\.25"):
        replay([f"resume={finished}"])


def test_command_line_merges_stored_and_given_overrides(run_folder: Path) -> None:
    arguments = replay([f"resume={run_folder}", "trainer.max_epochs=3"])
    assert "model.hidden=12" in arguments
    assert "trainer.max_epochs=2" not in arguments
    assert "++trainer.max_epochs=3" in arguments


def test_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """Its config names modules and keys that were renamed; its model can still be sampled."""
    run = shutil.copytree(PROJECT / "tests/fixtures/run_of_0.1.0", tmp_path / "run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints/last.ckpt").touch()
    with pytest.raises(UserError) as error:
        replay([f"resume={run}"])
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "data.steps: 64 -> (nothing)" in message
    assert message.endswith("resume it with the version that it began with, or start a new run")


def test_arguments_without_resume_are_unchanged() -> None:
    assert replay(["model.hidden=3", "-m", "resume=null"]) == ["model.hidden=3", "-m"]
    assert replay([]) == []
