import os
from pathlib import Path

import pytest

from trek_lm.files import atomic_write, remove_leftovers, write_text


def test_file_is_synced_before_it_is_renamed(
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


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fill() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as raised:
        fill()
    assert raised.value.filename == str(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_remove_leftovers_removes_only_temporary_files(tmp_path: Path) -> None:
    others = {".git", ".x.tmp", "a.1.tmp", ".a.txt.12.tmp.txt"}
    for name in {".a.txt.12.tmp", ".last.ckpt.4711.tmp", *others}:
        write_text(tmp_path / name, "")
    (tmp_path / "run").mkdir()
    nested = tmp_path / "run" / ".a.txt.12.tmp"  # of another run, two folders down: stays
    write_text(nested, "")
    remove_leftovers(tmp_path.parent)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "run"}
    assert nested.exists()


def test_full_disk_behind_another_error_is_reported(tmp_path: Path) -> None:
    """torch's writer raises another error while it closes its file."""

    def fill() -> None:
        with atomic_write(tmp_path / "a.ckpt"):
            try:
                raise OSError(28, "No space left on device")
            finally:
                raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(OSError, match="No space") as raised:
        fill()
    assert raised.value.filename == str(tmp_path / "a.ckpt")
    with pytest.raises(RuntimeError, match="another"), atomic_write(tmp_path / "a.ckpt"):
        raise RuntimeError("another")
