"""Bad checkpoints: whatever the file contains, a one-line error refuses it and no code runs."""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import sample
from tests.support.commands import Cli, RunHere, check_error
from trek_lm.errors import UserError
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST

Content = dict[str, Any]
LARGE = b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x20\x85R."
HOSTILE: dict[str, tuple[Callable[..., None], str]] = {}


def hostile(message: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function that makes a bad file from a good checkpoint's content and bytes."""

    def register(make: Callable[..., None]) -> Callable[..., None]:
        HOSTILE[make.__name__] = (make, message)
        return make

    return register


def changed(name: str, message: str, change: Callable[[Content], object]) -> None:
    """Registers a change to a checkpoint's content, which torch then saves."""

    def make(path: Path, content: Content, _: bytes) -> None:
        change(content)
        torch.save(content, path)

    HOSTILE[name] = (make, message)


@hostile("not a checkpoint")
def empty(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(b"")


@hostile("not a checkpoint")
def cut_in_half(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(good[: len(good) // 2])


@hostile("not a checkpoint")
def truncated_at_the_end(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(good[:-1])


@hostile("not a checkpoint")
def truncated_at_the_start(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(good[100:])


@hostile("not a checkpoint")
def a_bit_flipped(path: Path, content: Content, good: bytes) -> None:
    place = good.index(content["state_dict"]["model.head.weight"].numpy().tobytes()[:64])
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])


@hostile("not a checkpoint")
def zeros(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(bytes(len(good)))


class RunsCode:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@hostile("not a checkpoint")
def a_pickle_that_runs_code(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(pickle.dumps(RunsCode()))


@hostile("not a checkpoint")
def code_in_the_metadata(path: Path, content: Content, good: bytes) -> None:
    content["trek_lm"]["charset"] = RunsCode()
    torch.save(content, path)


@hostile("it refers to __builtin__ bytearray")
def bytearray_larger_than_the_file(path: Path, content: Content, good: bytes) -> None:
    """Half a gigabyte, which torch accepts as plain data."""
    names = zipfile.ZipFile(io.BytesIO(good)).namelist()
    (pickled,) = (name for name in names if name.endswith("data.pkl"))
    repacked(path, good, zipfile.ZIP_STORED, {pickled: LARGE})


@hostile("it refers to __builtin__ bytearray")
def bytearray_in_an_entry_in_capitals(path: Path, content: Content, good: bytes) -> None:
    """Torch ignores the case of an entry's name."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/DATA.PKL", LARGE)


@hostile("two entries have the same name")
def bytearray_beside_a_good_entry(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(good)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0].replace("data.pkl", "DATA.PKL"), LARGE)


@hostile("not a checkpoint")
def an_old_format_of_torch(path: Path, content: Content, good: bytes) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def repacked(path: Path, good: bytes, compression: int, extra: dict[str, bytes]) -> None:
    with (
        zipfile.ZipFile(io.BytesIO(good)) as old,
        zipfile.ZipFile(path, "w", compression) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, extra.get(entry.filename, old.read(entry)))


@hostile("entries are compressed or overlap")
def a_zip_bomb(path: Path, content: Content, good: bytes) -> None:
    name = zipfile.ZipFile(io.BytesIO(good)).namelist()[-1]
    repacked(path, good, zipfile.ZIP_DEFLATED, {name: bytes(100 * 2**20)})


@hostile("not a checkpoint")
def overlapping_entries(path: Path, content: Content, good: bytes) -> None:
    """All entries of the directory point to the longest one."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        longest = max(archive.infolist(), key=lambda entry: entry.file_size)
        with zipfile.ZipFile(path, "w") as new:
            new.writestr("archive/data/0", archive.read(longest))
            new.filelist *= 50


@hostile("not a checkpoint")
def nested_100_000_deep(path: Path, content: Content, good: bytes) -> None:
    deep = b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."
    names = zipfile.ZipFile(io.BytesIO(good)).namelist()
    (pickled,) = (name for name in names if name.endswith("data.pkl"))
    repacked(path, good, zipfile.ZIP_STORED, {pickled: deep})


NOT_OURS = "not a checkpoint of trek-lm"
NOT_ITS = "its weights do not fit the model that it describes"


def spec(key: str, value: object) -> Callable[[Content], object]:
    return lambda content: content["trek_lm"]["model"].update({key: value})


def metadata(key: str, value: object) -> Callable[[Content], object]:
    return lambda content: content["trek_lm"].update({key: value})


def weight(value: object) -> Callable[[Content], object]:
    return lambda content: content["state_dict"].update({"model.head.bias": value})


changed("a billion units", r"model\.hidden=1000000000: must be", spec("hidden", 10**9))
changed("minus five layers", r"model\.layers=-5: must be", spec("layers", -5))
changed("a layer and a half", r"model\.layers=1\.5: must be", spec("layers", 1.5))
changed("units as a string", r"model\.hidden=many: must be", spec("hidden", "many"))
changed("the largest sizes", NOT_ITS, lambda c: (spec("hidden", 2**14)(c), spec("layers", 64)(c)))
changed("n-grams without a table", NOT_ITS, spec("ngrams", 5))
changed("another cell", NOT_ITS, spec("cell", "gru"))
changed("an unknown cell", r"model\.cell=os\.system: choose", spec("cell", "os.system"))
changed("a _target_", r"model\._target_=os\.system: Unexpected", spec("_target_", "os.system"))
changed("a list as model", NOT_OURS, metadata("model", [1, 2]))
changed("a missing key", NOT_OURS, lambda content: content["trek_lm"].pop("charset"))
changed("a format as a string", NOT_OURS, metadata("format", "three"))
changed("a newer format", r"from a newer trek-lm \(format 99\)", metadata("format", 99))
changed("a number as charset", NOT_OURS, metadata("charset", 72))
changed("a smaller charset", "model and charset differ in size", metadata("charset", "ab\n"))
changed("a character twice", NOT_OURS, metadata("charset", "aa\n"))
changed("a list of speakers", NOT_OURS, metadata("speakers", ["KIRK"]))
changed("numbers as speakers", NOT_OURS, metadata("speakers", {1: 2}))
changed("a speaker without lines", NOT_OURS, metadata("speakers", {"KIRK": 0}))
changed("a speaker of too many lines", NOT_OURS, metadata("speakers", {"KIRK": 10**400}))
changed("a speaker without a name", NOT_OURS, metadata("speakers", {"": 1}))
changed("a negative format", NOT_OURS, metadata("format", -1))
changed("a name of two lines", r"model\.cell=.*choose", spec("cell", "x\nerror: y"))
changed("integer weights", "its weights are not real numbers", weight(torch.zeros(72).int()))
changed("complex weights", "its weights are not real numbers", weight(torch.zeros(72) * 1j))
changed("a missing weight", NOT_ITS, lambda c: c["state_dict"].pop("model.head.bias"))
changed("a weight of another shape", NOT_ITS, weight(torch.zeros(3)))
changed("a string as weight", NOT_OURS, weight("zero"))
changed("a NaN weight", "weights not finite", weight(torch.full((72,), torch.nan)))
changed("no weights", NOT_ITS, lambda content: content.update(state_dict={}))
changed("a list of weights", NOT_OURS, lambda content: content.update(state_dict=[]))


def expanded_weights(content: Content) -> None:
    """A model of half a gigabyte, each of whose weights stores a single number."""
    with torch.device("meta"):
        large = sample_model(content, hidden=4096, layers=2)
    content["state_dict"] = {
        f"model.{name}": torch.zeros(1).expand(tensor.shape) for name, tensor in large.items()
    }


def sample_model(content: Content, **changes: object) -> dict[str, torch.Tensor]:
    from trek_lm.models.char_lm import RecurrentLM

    content["trek_lm"]["model"].update(changes)
    return RecurrentLM(**content["trek_lm"]["model"]).state_dict()


changed("expanded weights", "its weights are larger than the file", expanded_weights)


@pytest.fixture
def good(run_folder: Path) -> Path:
    return run_folder / BEST


@pytest.fixture
def bad(request: pytest.FixtureRequest, good: Path, tmp_path: Path) -> Iterator[Path]:
    """The bad file that the test's parameter names, alone in its folder."""
    make, _ = HOSTILE[request.param]
    make(tmp_path / "bad.ckpt", torch.load(good, weights_only=True), good.read_bytes())
    yield tmp_path / "bad.ckpt"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]  # no code was run


@pytest.mark.parametrize(("bad", "name"), [(name, name) for name in HOSTILE], indirect=["bad"])
def test_bad_checkpoint_is_refused(
    bad: Path,
    name: str,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bad.parent)
    with pytest.raises(SystemExit) as left:
        run_here(sample, "ckpt=bad.ckpt")
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    check_error(printed.err, HOSTILE[name][1])
    assert "bad.ckpt" in printed.err


@pytest.mark.parametrize(
    "bad",
    ["a_bit_flipped", pytest.param("the largest sizes", marks=pytest.mark.slow)],
    indirect=True,
)
def test_bad_checkpoint_is_refused_by_the_command(bad: Path, run_cli: Cli) -> None:
    done = run_cli("sample.py", "ckpt=bad.ckpt", cwd=bad.parent)
    assert (done.returncode, done.stdout) == (2, "")
    check_error(done.stderr, r"bad\.ckpt: ")


def test_flipped_bit_is_refused_or_harmless(good: Path, tmp_path: Path) -> None:
    """The file is refused, or the bit is unused and the model generates the same line."""
    content, path = good.read_bytes(), tmp_path / "bad.ckpt"
    expected = CharLM.load(good).generate(n=1, seed=1)
    torch.manual_seed(0)
    for place in torch.randint(len(content), (200,)).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with suppress(UserError):
            assert CharLM.load(path).generate(n=1, seed=1) == expected
