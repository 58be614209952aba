"""Invalid commands: one line that says what is wrong and where, exit code 2, no file left.

Bounds of single values are tested where they are declared; here one of each kind of mistake.
"""

import os
from pathlib import Path

import pytest

import sample
import train
from tests.support.commands import Cli, RunHere, check_error

FILES = "data=files"
TRAIN: list[tuple[list[str], str]] = [
    ([FILES, "data.root={tmp}/missing"], "missing: no such file or folder"),
    ([FILES], "data=files needs data.root"),
    ([FILES, "data.root={tmp}/nothing"], "nothing: no transcript in this folder"),
    ([FILES, "data.root={tmp}/empty.txt"], r"empty\.txt: the file is empty"),
    ([FILES, "data.root={tmp}/binary.txt"], r"binary\.txt: not a text file"),
    (
        [FILES, "data.root={tmp}/prose.txt"],
        r"prose\.txt: no line with a speaker in 1 file.*data\.format=text",
    ),
    ([FILES, "data.root={tmp}/speech"], r"data\.split=episode leaves the \w+ split empty"),
    (["data.val_fraction=0.7", "data.test_fraction=0.7"], r"sum to 1\.4"),
    (["model.hidden=0"], r"model\.hidden=0: must be greater than or equal to 1"),
    (["model=transformer"], r"Could not find 'model/transformer'.*gru.*lstm"),
    (["model.hiden=3"], r"model\.hiden: no such key; did you mean model\.hidden\?"),
    (["modle=gru"], r"modle: no such key; did you mean model\?"),
    (["+modle=gru"], r"modle: no such key; did you mean model\?"),
    (["+init_from=x"], "init_from: no such key; see --help"),
    (["++optim.lrr=0.5"], r"optim\.lrr: no such key; did you mean optim\.lr\?"),
    (["+optim.weight_decay=0.5"], r"did you mean optim\.optimizer\.weight_decay\?"),
    (["+data.tempo=3"], r"data\.tempo=3: Unexpected keyword argument"),
    (["trainer.limit_test_batches=3"], r"use \+trainer\.limit_test_batches=3"),
    (["model.hidden="], r"model\.hidden="),
    (["model.hidden=[1"], "no viable alternative"),
    (["optim.lr=-1"], "Invalid learning rate: -1"),
    (["optim.lr=fast"], "optim: .*lr=fast"),
    (["optim.tables.lr=-1"], "optim.tables: .*-1"),
    (
        ["optim.tables._target_=torch.optim.RMSprop", "~optim.tables.initial_accumulator_value"],
        "optim.tables: RMSprop does not support sparse gradients",
    ),
    (["model.ngrams=3", "~optim.tables"], "model.ngrams needs optim.tables"),
    (["optim.schedule=null"], r"optim\.schedule: 'NoneType' object is not callable"),
    (["optim.schedule.final=-5"], r"optim\.schedule: learning rate -0\.0"),
    (["optim.schedule.warmup=x"], r"optim\.schedule: .*\(given: warmup=x, final=0\.0\)"),
    (["+optim.schedule.gamma=2"], r"optim\.schedule: .*unexpected keyword argument 'gamma'"),
    (["optim.optimizer._target_=os.system"], "Target 'os.system' is blocklisted"),
    (["callbacks.dashboard.lines=x"], r"callbacks\.dashboard\.lines=x: must be a valid integer"),
    (["callbacks.dashboard.splits=[x]"], r"callbacks\.dashboard\.splits=\['x'\]: must be 'train'"),
    (["callbacks.progress=x"], r"callbacks\.progress=x: not a Lightning callback"),
    ([FILES, "data.root=~nobodyatall"], "~nobodyatall: no such user"),
    ([FILES, "data.root=/dev/null"], "/dev/null: neither a file nor a folder"),
    (["experiment=null"], "experiment=null: give one of best, .*, or leave it out"),
    (["model=3"], "model=3: give one of gru, lstm"),
    (["data.series=TOS"], r"data\.series=TOS: none of these files holds several series"),
    ([FILES, "data.root={tmp}/broken.json"], r"broken\.json: not valid JSON"),
    (["data.root=somewhere"], "add data=files"),
    (["seed=-4"], r"seed=-4: must be greater than or equal to 0"),
    (["trainer.max_epochs=many"], r"trainer\.max_epochs=many: must be -1 or a valid integer"),
    (["budget=soon"], r"budget=soon: give a time such as 60s, 20m or 1\.5h"),
    ([FILES, "data.root={tmp}/missing", "budget=abc"], "budget=abc: give a time such as 60s"),
    (["+trainer.limit_test_batches=1e-9"], r"trainer\.limit_test_batches=1e-09: less than one"),
    (["trainer.precision=3"], "precision"),
    (["trainer.accelerator=tpu"], ".*set in trainer"),
]

SAMPLE: list[tuple[list[str], str]] = [
    (["speaker=T'PAU"], "speaker=T'PAU: not in the corpus; most frequent: ADA, BRAN"),
    (["speaker=BRAM"], "similar: BRAN"),
    (["prompt=ADA: \u20ac5"], "'\u20ac' at position 6"),
    (["temperature=0"], "temperature=0: must be greater than 0"),
    (["temperature=1" + "0" * 400], "temperature=1000"),
    (["temperature=0.3,0.7"], "temperature=0.3,0.7"),
    (["-m", "seed=1,2"], "sample.py has no sweeps; use a list instead"),
    *(
        ([f"{flag}=no"], f"{flag}=no: must be a valid boolean")
        for flag in ("force", "stream", "overwrite", "interactive", "score", "greedy")
    ),
    (["show=bits"], "show= is only for score=true and score_file=; remove show"),
    (["interactive=true", "out=x.txt", "format=jsonl"], "own output; remove format and out"),
    (["score=true", "prompt=ADA: x", "stream=true"], "generate nothing; remove stream"),
    (["score_file=x.txt", "speaker=ADA"], "score_file= has the text; remove speaker"),
    (["score=true", "prompt=Go", "speaker=BRAM"], "speaker=BRAM: not in the corpus; similar: BRAN"),
    (["speaker=ADA,BRAN"], r"speaker=ADA,BRAN: for several speakers use brackets"),
    (["ckpt={run}/checkpoints"], "neither a run with"),
    (["out=/dev/null", "overwrite=true"], "out=/dev/null: exists and is not a file"),
    (["ckpt=missing.ckpt"], r"missing\.ckpt: no such file"),
    (["ckpt=outputs"], r"neither a run with checkpoints/best\.ckpt nor a sweep"),
    (["ckpt={run}/metrics.json"], r"metrics\.json: not a checkpoint"),
    (["outputs=elsewhere"], "no trained run here"),
    (["volume=11"], "volume: no such key; see --help"),
    (["prompt=[Bridge]"], r"prompt: '\[' at position 1"),
    (["speaker=[ADA,Q]"], "speaker=Q: not in the corpus"),
    (["speaker=[]"], r"speaker=\[\] is empty"),
    (["temperature=[0.5,0]"], "temperature=0: must be greater than 0"),
    (["temperature=[]"], r"temperature=\[\] is empty"),
    (["seed=x"], "seed=x: must be a valid integer"),
    (["format=xml"], "format=xml: must be 'text' or 'jsonl'"),
    (["show=all"], "show=all: must be 'bits'"),
    (["stream=true", "format=jsonl"], "stream=true prints .*; remove format"),
    (["out={tmp}/nowhere/x.txt"], r"nowhere/x\.txt: no such folder"),
    (["out={tmp}"], "exists and is not a file"),
    (["score=true"], "score=true needs prompt=TEXT"),
    (["score=true", "prompt=\u20ac"], "prompt: '\u20ac' at position 1"),
    (["score_file=/dev/zero"], "score_file=/dev/zero: not a file"),
    (["score_file={tmp}/pipe"], "score_file=.*pipe: not a file"),
    (["score_file={tmp}/sparse.txt"], "score_file=.*sparse.txt: more than 67,108,864 bytes"),
    (["ckpt="], "ckpt= is empty"),
    (["ckpt=~nobodyatall"], "~nobodyatall: no such user"),
    (["hydra.mode=MULTIRUN"], "sample.py has no sweeps"),
    (["prompt=hydra.mode is [x]"], r"prompt: '\[' at position 15"),
    (["prompt=???"], r"prompt=\?\?\?: in a config \?\?\? means"),
    (["score_file={tmp}/missing.txt"], r"score_file=.*missing\.txt: No such file"),
    (["score_file={tmp}/binary.txt"], r"score_file=.*binary\.txt: not UTF-8 text"),
    (["score_file={tmp}/empty.txt"], r"score_file=.*empty\.txt: has no text to score"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "1.txt").write_text("A: Yes.\n")
    (tmp_path / "prose.txt").write_text("Once upon a time.\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "broken.json").write_text('{"TOS": {"episode 0": "KIRK: Y')
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe")  # no process writes to it
    with (tmp_path / "sparse.txt").open("wb") as file:
        file.truncate(2**40)
    return tmp_path


def filled(arguments: list[str], folder: Path, corpus: Path) -> list[str]:
    return [argument.format(tmp=folder, corpus=corpus) for argument in arguments]


def check_nothing_left(folder: Path) -> None:
    """Only the run folder's log and .hydra/ may stay."""
    left = {p.name for p in folder.rglob("outputs/**/*") if p.is_file()}
    assert left <= {"train.log", "config.yaml", "hydra.yaml", "overrides.yaml", ".lock"}


@pytest.mark.parametrize(("arguments", "message"), TRAIN)
def test_invalid_training_command(
    arguments: list[str],
    message: str,
    folder: Path,
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as left:
        run_here(train, *filled(arguments, folder, corpus))
    assert left.value.code == 2
    check_error(capsys.readouterr().err, message)
    check_nothing_left(folder)


@pytest.mark.parametrize(("arguments", "message"), SAMPLE)
def test_invalid_sampling_command(
    arguments: list[str],
    message: str,
    folder: Path,
    trained: tuple[Path, str],
    run_folder: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(trained[0])
    with pytest.raises(SystemExit) as left:
        run_here(sample, *(argument.format(run=run_folder, tmp=folder) for argument in arguments))
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    check_error(printed.err, message)


@pytest.mark.parametrize(
    ("script", "argument", "message"),
    [
        ("train.py", "model=transformer", "Could not find 'model/transformer'"),
        ("sample.py", "speaker=T'PAU", "no trained run here"),
    ],
)
def test_invalid_command_in_a_new_process(
    script: str, argument: str, message: str, tmp_path: Path, run_cli: Cli
) -> None:
    done = run_cli(script, argument, cwd=tmp_path)
    assert done.returncode == 2
    check_error(done.stderr, message)
    check_nothing_left(tmp_path)
