"""The tests of runs work in a folder of their own; a finished run for those of `resume=`."""

import shutil
from pathlib import Path

import pytest

import train
from tests.support.commands import TINY, RunHere

NAME = "outputs/it's, model.hidden=12 (1)"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test in its `tmp_path`, as commands write below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, corpus: Path, run_here: RunHere) -> Path:
    """The working folder of that run; tests must not change it."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = ("data=files", f"data.root={corpus}", *TINY)
        run_here(train, *data, f'hydra.run.dir="{NAME}"')
    return folder


@pytest.fixture
def finished(original: Path) -> Path:
    """A copy of that run, relative to the current folder."""
    shutil.copytree(original / "outputs", "outputs")
    return Path(NAME)
