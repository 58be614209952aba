"""`resume=`: what its command line takes, refuses, and makes of a run."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from tests.support.commands import PROJECT, TINY, Cli, RunHere
from tests.support.corpora import write_episodes
from tests.support.runs import outcome
from trek_lm.errors import UserError
from trek_lm.runs.begin import locked
from trek_lm.runs.replay import replay
from trek_lm.signals import SIGNALS
from trek_lm.training.checkpointing import LastCheckpoint


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NAME = "outputs/it's, model.hidden=12 (1)"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, corpus: Path, run_here: RunHere) -> Path:
    """The working folder of a finished run whose folder has a difficult name."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = ("data=files", f"data.root={corpus}", *TINY)
        run_here(train, *data, f'hydra.run.dir="{NAME}"')
    return folder


class TestCommandLine:
    @pytest.fixture
    def finished(self, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of that run, below the current folder."""
        shutil.copytree(original / "outputs", tmp_path / "outputs")
        monkeypatch.chdir(tmp_path)
        return Path(NAME)

    def test_a_finished_run_says_so(
        self, finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (finished / "metrics.json").read_bytes()
        capsys.readouterr()
        run_here(train, f"resume={finished}")
        assert f"{finished} is finished (2 epochs)" in capsys.readouterr().out
        assert (finished / "metrics.json").read_bytes() == before

    def test_the_limit_that_was_reached_is_named(
        self, tmp_path: Path, corpus: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        few = ("trainer.max_steps=2", f"hydra.run.dir={tmp_path / 'few'}")
        run_here(train, "data=files", f"data.root={corpus}", *TINY, *few)
        for limit in ("trainer.max_epochs=9", "trainer.max_steps=1"):
            run_here(train, f"resume={tmp_path / 'few'}", limit)
            assert "; trainer.max_steps=N trains it longer" in capsys.readouterr().out

    @pytest.mark.parametrize("key", ["resume", "+resume", "++resume"])
    def test_it_is_read_however_it_is_given(self, finished: Path, key: str) -> None:
        assert replay([f"{key}={finished}"]) == replay([f"resume={finished}"])

    def test_nobody_else_works_in_the_folder_meanwhile(
        self, finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(finished)
        for argument in (f"resume={finished}", f'hydra.run.dir="{finished}"'):
            with locked(finished.absolute()), pytest.raises(SystemExit):
                run_here(train, argument)
            assert f"{finished}: another process trains there" in capsys.readouterr().err
        assert contents(finished) == before
        run_here(train, f"resume={finished}")

    def test_a_moved_folder_is_as_good(
        self, finished: Path, run_here: RunHere, tmp_path: Path
    ) -> None:
        moved = finished.rename(tmp_path / "moved")
        run_here(train, f"resume={moved}", "trainer.max_epochs=3")
        assert json.loads((moved / "metrics.json").read_text())["epochs"] == 3

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
    def test_what_makes_a_run_stays(
        self, finished: Path, arguments: list[str], message: str
    ) -> None:
        before = contents(finished)
        with pytest.raises(UserError, match=message):
            replay([f"resume={finished}", *arguments])
        assert before == contents(finished)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            pytest.param(
                "trainer.devices=2",
                "the run has 1 processes, not 2: set trainer.devices",
                marks=pytest.mark.slow,
            ),
            ("trainer.precision=3", "precision"),
            ("trainer.max_epochs=many", "trainer.max_epochs=many: must be"),
        ],
    )
    def test_a_mistake_leaves_the_run_as_it_was(
        self,
        finished: Path,
        argument: str,
        message: str,
        run_here: RunHere,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (finished / "metrics.json").unlink()  # as if it had been stopped
        before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
        with pytest.raises(SystemExit):
            run_here(train, f"resume={finished}", argument)
        assert message in capsys.readouterr().err
        del before[finished / "train.log"]
        assert before == {p: p.read_bytes() for p in before}
        run_here(train, f"resume={finished}")
        assert (finished / "metrics.json").exists()

    def test_settings_are_merged_and_kept(self, finished: Path, run_here: RunHere) -> None:
        for step in (30, 32):
            longer = ("trainer.max_epochs=9", f"trainer.max_steps={step}")
            run_here(train, f"resume={finished}", *longer)
            assert json.loads((finished / "metrics.json").read_text())["steps"] == step
        overrides = (finished / ".hydra" / "overrides.yaml").read_text()
        assert overrides.count("max_steps") == overrides.count("max_epochs") == 1

    def test_options_of_hydra_are_no_overrides(
        self, finished: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        run_here(train, f"resume={finished}", "--cfg", "job", "-p", "model")
        assert "hidden: 12" in capsys.readouterr().out
        replay([f"resume={finished}", "hydra.verbose=true"])

    @pytest.mark.parametrize(("limit", "done"), [("epochs", "2 epochs"), ("steps", "24 steps")])
    def test_less_than_is_done(
        self,
        finished: Path,
        limit: str,
        done: str,
        run_here: RunHere,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (finished / "metrics.json").write_text("{")  # as good as none
        with pytest.raises(SystemExit):
            run_here(train, f"resume={finished}", f"trainer.max_{limit}=1")
        assert f"trainer.max_{limit}=1: the run has done {done}" in capsys.readouterr().err
        assert (finished / "metrics.json").read_text() == "{"

    def test_files_that_were_renamed(
        self,
        tmp_path: Path,
        corpus: Path,
        run_here: RunHere,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The same lines in the same order, but other episodes would be held out."""
        monkeypatch.chdir(tmp_path)
        show = shutil.copytree(corpus, tmp_path / "show")
        run_here(train, "data=files", "data.root=show", *TINY, "hydra.run.dir=run")
        for path in sorted(show.glob("?.txt")):
            path.rename(path.with_name(f"0{path.name}"))
        (tmp_path / "run" / "metrics.json").unlink()
        with pytest.raises(SystemExit):
            run_here(train, "resume=run")
        assert "the held-out lines are not those that the run began with" in capsys.readouterr().err

    def test_from_another_folder(
        self,
        tmp_path: Path,
        run_here: RunHere,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A relative data.root is that of the folder where the run began."""
        monkeypatch.chdir(tmp_path)
        write_episodes(tmp_path / "it's a show")
        run_here(train, "data=files", "data.root=it's a show", *TINY, "hydra.run.dir=run")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        for epochs in (3, 4):
            run_here(train, "resume=../run", f"trainer.max_epochs={epochs}")
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 4

    def test_a_changed_config_is_named(self, finished: Path) -> None:
        path = finished / ".hydra" / "config.yaml"
        path.write_text(path.read_text().replace("dropout: 0.25", "dropout: 0.5"))
        with pytest.raises(UserError, match=r"conf/ has changed .*model\.dropout: 0\.5 -> 0\.25"):
            replay([f"resume={finished}"])

    def test_a_changed_corpus_is_refused(
        self,
        tmp_path: Path,
        run_here: RunHere,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        show = write_episodes(tmp_path / "show")
        run_here(train, "data=files", "data.root=show", *TINY, "hydra.run.dir=run")
        before = {path.name for path in Path("run").rglob("*")}
        (show / "1.txt").write_text("ADA: Something else.\n")
        with pytest.raises(SystemExit):
            run_here(train, "resume=run", "trainer.max_epochs=3")
        assert "is not the corpus that the run began with" in capsys.readouterr().err
        assert before == {path.name for path in Path("run").rglob("*")}


def test_its_own_command_line_with_what_is_given_besides(run_folder: Path) -> None:
    arguments = replay([f"resume={run_folder}", "trainer.max_epochs=3"])
    assert "model.hidden=12" in arguments
    assert "trainer.max_epochs=2" not in arguments
    assert "++trainer.max_epochs=3" in arguments


def test_configs_of_ones_own_are_found_again(
    tmp_path: Path, corpus: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder, and where they have moved; and a root of null, as scripts give it."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "my, conf"
    (own / "model").mkdir(parents=True)
    (own / "model/mine.yaml").write_text("defaults: [lstm]\nhidden: 7\n")
    few = ("trainer.max_steps=2", "callbacks.dashboard.lines=0", "hydra.run.dir=run")
    run_here(train, "hydra.searchpath=['my, conf']", "model=mine", "data.root=null", *few)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for steps in (3, 4):
        run_here(train, "resume=../run", f"trainer.max_steps={steps}")
    own.rename(tmp_path / "moved")
    path = f"hydra.searchpath=[file://{tmp_path}/moved]"
    run_here(train, "resume=../run", path, "trainer.max_steps=5")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["steps"] == 5


def test_without_a_validation_the_last_checkpoint_is_the_best(
    tmp_path: Path, corpus: Path, run_here: RunHere
) -> None:
    """Also where the run was killed just before it was made so."""
    run = tmp_path / "run"
    data = ("data=files", f"data.root={corpus}", *TINY, f"hydra.run.dir={run}")
    run_here(train, *data, "+trainer.limit_val_batches=0")
    expected = json.loads((run / "metrics.json").read_text())["test/loss"]
    for name in ("metrics.json", "checkpoints/best.ckpt"):
        (run / name).unlink()
    run_here(train, f"resume={run}")
    assert json.loads((run / "metrics.json").read_text())["test/loss"] == expected
    best, last = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()


def test_an_epoch_under_way_needs_more_than_is_done(
    tmp_path: Path,
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For it would never be validated."""
    run = tmp_path / "run"
    with monkeypatch.context() as killed:  # in the last step of the second epoch's twelve
        killed.setattr(LastCheckpoint, "on_train_epoch_end", lambda *_: None)
        data = ("data=files", f"data.root={corpus}", *TINY, f"hydra.run.dir={run}")
        run_here(train, *data, "checkpoint.every_minutes=0")
    (run / "metrics.json").unlink()
    for limit, told in (("steps=23", "23 steps"), ("epochs=1", "1 epoch")):
        with pytest.raises(SystemExit):
            run_here(train, f"resume={run}", f"trainer.max_{limit}")
        assert f"the run has done {told} and stopped within an epoch" in capsys.readouterr().err
    run_here(train, f"resume={run}", "trainer.max_steps=24")
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["steps"], metrics["epochs"]) == (24, 2)


def test_a_run_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    """Its configs name modules and keys that have moved since; its model can still be sampled."""
    run = shutil.copytree(PROJECT / "tests/fixtures/run_of_0.1.0", tmp_path / "run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints/last.ckpt").touch()
    with pytest.raises(UserError) as error:
        replay([f"resume={run}"])
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "data.steps: 64 -> (nothing)" in message
    assert message.endswith("resume it with the version that it began with, or start a new run")


def test_without_resume_nothing_changes() -> None:
    assert replay(["model.hidden=3", "-m", "resume=null"]) == ["model.hidden=3", "-m"]
    assert replay([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", SIGNALS)
def test_stopped_run_prints_the_resume_command(
    sent: signal.Signals, tmp_path: Path, corpus: Path
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, str(PROJECT / "train.py"), "data=files", f"data.root={corpus}"),
            *("model.hidden=12", "trainer.max_epochs=100000", "hydra.run.dir=run"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(sent)
    out, err = process.communicate()
    told = f"stopped by {sent.name}; resume: python train.py resume=run"
    assert out.splitlines()[-1] == told
    assert process.returncode == 128 + sent
    assert "Traceback" not in err


def test_finished_run_is_trained_longer_twice(
    original: Path,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(original / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    for epochs in (3, 4):
        time.sleep(1.1)  # TensorBoard orders its files by the second in which each was made
        run_here(train, f"resume={NAME}", f"trainer.max_epochs={epochs}")
        assert f"epoch {epochs}/{epochs}" in capsys.readouterr().out
    run = Path(NAME)
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 4
    log = (run / "train.log").read_text()
    assert [line for line in ("epoch 2/2", "epoch 3/3", "epoch 4/4") if log.count(line) != 1] == []
    curves = outcome(run)["curves"]
    steps = [step for step, _ in curves["val/loss"]]
    assert len(steps) == 4
    assert steps == sorted(set(steps)) == [step for step, _ in curves["train/acc"]]
    assert [step for step, _ in curves["test/loss"]] == [steps[-1] + 1]  # of the longest training


def test_newest_run_resumes_in_a_process(original: Path, tmp_path: Path, run_cli: Cli) -> None:
    shutil.copytree(original / "outputs", tmp_path / "outputs")
    done = run_cli("train.py", "resume=latest", "model.hidden=5", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.hidden: fixed when the run began")


def test_a_member_of_a_sweep_goes_on_alone(
    tmp_path: Path, corpus: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the sweep's config that says there are several runs."""
    monkeypatch.chdir(tmp_path)
    small = ("model.hidden=5", "model.layers=1", "trainer.max_epochs=1", "data.batch_size=16")
    run_here(
        *(train, "sweep=writeup_search", "experiment=writeup", "data=files"),
        *(f"data.root={corpus}", "optim.lr=0.1,0.2", *small, "hydra.sweep.dir=all"),
    )
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.json")}
    run_here(train, "resume=all/1", "trainer.max_epochs=2")
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.json")} == before
    epochs = [json.loads(Path(f"all/{n}/metrics.json").read_text())["epochs"] for n in (0, 1)]
    assert epochs == [1, 2]
