"""Checkpoints from others: whatever is in the file, one line says that it is no good."""

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
from tests.conftest import Cli, RunHere
from tests.runs.test_mistakes import check_error
from trek_lm.errors import UserError
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST

Content = dict[str, Any]
LARGE = b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x20\x85R."
HOSTILE: dict[str, tuple[Callable[..., None], str]] = {}


def hostile(message: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers what makes of a good checkpoint's content, and its bytes, a bad file."""

    def register(make: Callable[..., None]) -> Callable[..., None]:
        HOSTILE[make.__name__] = (make, message)
        return make

    return register


def changed(name: str, message: str, change: Callable[[Content], object]) -> None:
    """Registers a change to the content of a checkpoint that is written as torch does."""

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
def without_its_end(path: Path, content: Content, good: bytes) -> None:
    path.write_bytes(good[:-1])


@hostile("not a checkpoint")
def without_its_beginning(path: Path, content: Content, good: bytes) -> None:
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
def code_among_the_facts(path: Path, content: Content, good: bytes) -> None:
    content["trek_lm"]["charset"] = RunsCode()
    torch.save(content, path)


@hostile("it names __builtin__ bytearray")
def memory_that_is_not_in_the_file(path: Path, content: Content, good: bytes) -> None:
    """Half a gigabyte, which torch would take for plain data."""
    names = zipfile.ZipFile(io.BytesIO(good)).namelist()
    (pickled,) = (name for name in names if name.endswith("data.pkl"))
    repacked(path, good, zipfile.ZIP_STORED, {pickled: LARGE})


@hostile("it names __builtin__ bytearray")
def the_same_in_capitals(path: Path, content: Content, good: bytes) -> None:
    """Torch finds an entry whatever the case of its name."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/DATA.PKL", LARGE)


@hostile("it holds a name twice")
def the_same_beside_a_good_one(path: Path, content: Content, good: bytes) -> None:
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


@hostile("it would unpack to more than it is")
def a_zip_bomb(path: Path, content: Content, good: bytes) -> None:
    name = zipfile.ZipFile(io.BytesIO(good)).namelist()[-1]
    repacked(path, good, zipfile.ZIP_DEFLATED, {name: bytes(100 * 2**20)})


@hostile("not a checkpoint")
def entries_in_the_same_place(path: Path, content: Content, good: bytes) -> None:
    """The directory's entries all point at the file's longest one."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        longest = max(archive.infolist(), key=lambda entry: entry.file_size)
        with zipfile.ZipFile(path, "w") as new:
            new.writestr("archive/data/0", archive.read(longest))
            new.filelist *= 50


@hostile("not a checkpoint")
def nested_a_million_deep(path: Path, content: Content, good: bytes) -> None:
    deep = b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."
    names = zipfile.ZipFile(io.BytesIO(good)).namelist()
    (pickled,) = (name for name in names if name.endswith("data.pkl"))
    repacked(path, good, zipfile.ZIP_STORED, {pickled: deep})


NOT_OURS = "not a checkpoint of trek-lm"
NOT_ITS = "its weights are not those of the model that it describes"


def spec(key: str, value: object) -> Callable[[Content], object]:
    return lambda content: content["trek_lm"]["model"].update({key: value})


def fact(key: str, value: object) -> Callable[[Content], object]:
    return lambda content: content["trek_lm"].update({key: value})


def weight(value: object) -> Callable[[Content], object]:
    return lambda content: content["state_dict"].update({"model.head.bias": value})


changed("a billion units", r"model\.hidden=1000000000: must be", spec("hidden", 10**9))
changed("minus five layers", r"model\.layers=-5: must be", spec("layers", -5))
changed("a layer and a half", r"model\.layers=1\.5: must be", spec("layers", 1.5))
changed("units in words", r"model\.hidden=many: must be", spec("hidden", "many"))
changed("as large as may be", NOT_ITS, lambda c: (spec("hidden", 2**14)(c), spec("layers", 64)(c)))
changed("a table that isn't there", NOT_ITS, spec("ngrams", 5))
changed("another cell", NOT_ITS, spec("cell", "gru"))
changed("a cell of its own", r"model\.cell=os\.system: choose", spec("cell", "os.system"))
changed("a target", r"model\._target_=os\.system: Unexpected", spec("_target_", "os.system"))
changed("a model that is no dict", NOT_OURS, fact("model", [1, 2]))
changed("a key too few", NOT_OURS, lambda content: content["trek_lm"].pop("charset"))
changed("a format in words", NOT_OURS, fact("format", "three"))
changed("a newer format", r"from a newer trek-lm \(format 99\)", fact("format", 99))
changed("characters that are numbers", NOT_OURS, fact("charset", 72))
changed("a character too few", "not one of so many characters", fact("charset", "ab\n"))
changed("a character twice", NOT_OURS, fact("charset", "aa\n"))
changed("speakers that are a list", NOT_OURS, fact("speakers", ["KIRK"]))
changed("speakers by number", NOT_OURS, fact("speakers", {1: 2}))
changed("a speaker of no lines", NOT_OURS, fact("speakers", {"KIRK": 0}))
changed("a speaker of too many", NOT_OURS, fact("speakers", {"KIRK": 10**400}))
changed("a speaker of none", NOT_OURS, fact("speakers", {"": 1}))
changed("a format before the first", NOT_OURS, fact("format", -1))
changed("two lines", r"model\.cell=.*choose", spec("cell", "x\nerror: y"))
changed("whole weights", "its weights are no real numbers", weight(torch.zeros(72).int()))
changed("imaginary weights", "its weights are no real numbers", weight(torch.zeros(72) * 1j))
changed("a weight too few", NOT_ITS, lambda c: c["state_dict"].pop("model.head.bias"))
changed("a weight of another shape", NOT_ITS, weight(torch.zeros(3)))
changed("a weight that is a word", NOT_OURS, weight("zero"))
changed("a weight that is no number", "weights not finite", weight(torch.full((72,), torch.nan)))
changed("no weights", NOT_ITS, lambda content: content.update(state_dict={}))
changed("weights that are a list", NOT_OURS, lambda content: content.update(state_dict=[]))


def shown_larger(content: Content) -> None:
    """A model of half a gigabyte whose weights are one number each."""
    with torch.device("meta"):
        large = sample_model(content, hidden=4096, layers=2)
    content["state_dict"] = {
        f"model.{name}": torch.zeros(1).expand(tensor.shape) for name, tensor in large.items()
    }


def sample_model(content: Content, **changes: object) -> dict[str, torch.Tensor]:
    from trek_lm.models.char_lm import RecurrentLM

    content["trek_lm"]["model"].update(changes)
    return RecurrentLM(**content["trek_lm"]["model"]).state_dict()


changed("shown larger than it is", "its weights are more than the file holds", shown_larger)


@pytest.fixture
def good(run_folder: Path) -> Path:
    return run_folder / BEST


@pytest.fixture
def bad(request: pytest.FixtureRequest, good: Path, tmp_path: Path) -> Iterator[Path]:
    """A file made by what the test is parametrized with; the current folder is its own."""
    make, _ = HOSTILE[request.param]
    make(tmp_path / "bad.ckpt", torch.load(good, weights_only=True), good.read_bytes())
    yield tmp_path / "bad.ckpt"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]  # no code was run


@pytest.mark.parametrize(("bad", "name"), [(name, name) for name in HOSTILE], indirect=["bad"])
def test_what_is_no_good(
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


@pytest.mark.parametrize("bad", ["a_bit_flipped", "as large as may be"], indirect=True)
def test_in_a_process_of_its_own(bad: Path, run_cli: Cli) -> None:
    done = run_cli("sample.py", "ckpt=bad.ckpt", cwd=bad.parent)
    assert (done.returncode, done.stdout) == (2, "")
    check_error(done.stderr, r"bad\.ckpt: ")


def test_any_bit_flipped(good: Path, tmp_path: Path) -> None:
    """Either nobody looks at it, or the file is refused: no other model comes out of it."""
    content, path = good.read_bytes(), tmp_path / "bad.ckpt"
    expected = CharLM.load(good).generate(n=1, seed=1)
    torch.manual_seed(0)
    for place in torch.randint(len(content), (200,)).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with suppress(UserError):
            assert CharLM.load(path).generate(n=1, seed=1) == expected
