"""A finished run whose folder has a difficult name, for the tests of `resume=`."""

import shutil
from pathlib import Path

import pytest

import train
from tests.support.commands import TINY, RunHere

NAME = "outputs/it's, model.hidden=12 (1)"


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
def finished(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, relative to the current folder."""
    shutil.copytree(original / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return Path(NAME)
