import os
from pathlib import Path

import pytest

from trek_lm.files import remove_leftovers, replacing, write_text


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def fsync_noted(descriptor: int) -> None:
        order.append("fsync")
        fsync(descriptor)

    def replace_noted(self: Path, target: Path) -> Path:
        order.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync_noted)
    monkeypatch.setattr(Path, "replace", replace_noted)
    write_text(tmp_path / "a.txt", "caf\u00e9\n")
    assert order == ["fsync", "replace", "fsync"]  # the file, its name, the folder
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xc3\xa9\n"


def test_what_goes_wrong_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fill() -> None:
        with replacing(path) as file:
            file.write(b"half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as raised:
        fill()
    assert raised.value.filename == str(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_what_killed_processes_left(tmp_path: Path) -> None:
    others = {".git", ".x.tmp", "a.1.tmp", ".a.txt.12.tmp.txt"}
    for name in {".a.txt.12.tmp", ".last.ckpt.4711.tmp", *others}:
        write_text(tmp_path / name, "")
    (tmp_path / "run").mkdir()
    within = tmp_path / "run" / ".a.txt.12.tmp"  # of a run in a folder within: not looked at
    write_text(within, "")
    remove_leftovers(tmp_path.parent)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "run"}
    assert within.exists()


def test_what_a_library_makes_of_a_full_disk(tmp_path: Path) -> None:
    """torch's writer raises an error of its own while it closes its file."""

    def fill() -> None:
        with replacing(tmp_path / "a.ckpt"):
            try:
                raise OSError(28, "No space left on device")
            finally:
                raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(OSError, match="No space") as raised:
        fill()
    assert raised.value.filename == str(tmp_path / "a.ckpt")
    with pytest.raises(RuntimeError, match="another"), replacing(tmp_path / "a.ckpt"):
        raise RuntimeError("another")
