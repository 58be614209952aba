import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from trek_lm.data.lines import Episode, Reading
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError


def test_several_episodes_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text("Episode Number: 1\nA: One.\nEpisode Number: 2\nA: Two.\n")
    episodes, report = read_transcripts(path)
    assert episodes == [Episode("all#1", "A: One.\n"), Episode("all#2", "A: Two.\n")]
    assert report.episodes == 2


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    names = ["1.txt", "2.txt", "10.txt", "b/3.txt"]
    for name in random.Random(0).sample(names, len(names)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"A: In {name}.")
    (tmp_path / ".hidden.txt").write_text("A: Hidden.")
    (tmp_path / "README.md").write_text("A: Not a transcript.")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    episodes, report = read_transcripts(tmp_path)
    assert [episode.text for episode in episodes] == [f"A: In {name}.\n" for name in names]
    assert [episode.name for episode in episodes] == ["1", "2", "10", "b/3"]
    assert (report.files, report.lines, report.speakers) == (4, 4, {"A": 4})
    assert report.characters == sum(len(f"A: In {name}.\n") for name in names)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "second", elsewhere / "deep"):
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text(f"A: In {folder.name}.")
    (root / "first").symlink_to(root / "second")
    (root / "linked").symlink_to(elsewhere)
    (root / "second" / "up").symlink_to(root)
    (elsewhere / "deep" / "out").symlink_to(tmp_path)
    (root / "itself").symlink_to(root / "itself")
    episodes, report = read_transcripts(root)
    assert [episode.name for episode in episodes] == ["linked/deep/1", "second/1"]
    assert report.files == 2


def test_latin1_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes("A: Déjà vu.".encode("latin-1"))
    episodes, report = read_transcripts(tmp_path)
    assert episodes[0].text == "A: Déjà vu.\n"
    assert len(report.warnings) == 1
    assert "1.txt: not UTF-8, read as Windows-1252" in report.warnings[0]


def test_windows_1252_and_utf16_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes("A: What\u2019s that\u2026 there?".encode("cp1252"))
    (tmp_path / "2.txt").write_bytes("A: D\u00e9j\u00e0 vu.\r\n".encode("utf-16"))
    episodes, _ = read_transcripts(tmp_path)
    assert [episode.text for episode in episodes] == [
        *("A: What's that\u2026 there?\n", "A: D\u00e9j\u00e0 vu.\n"),
    ]


def test_warning_shows_lines_without_a_speaker(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.")
    (tmp_path / "2.txt").write_text("Spock: Fascinating.\n" * 20)
    _, report = read_transcripts(tmp_path)
    assert "2.txt: only 0 lines with a speaker" in report.warnings[0]
    assert "Spock: Fascinating. | Spock: Fascinating." in report.warnings[0]


def test_warning_for_few_lines_in_a_long_file(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.\n\n" + "Prose without speakers, at length.\n" * 100)
    _, report = read_transcripts(tmp_path)
    assert "only 1 line with a speaker in 3," in report.warnings[0]
    assert "Prose without speakers, at length." in report.warnings[0]


def test_warning_for_unrecognised_speakers(tmp_path: Path) -> None:
    path = tmp_path / "1.txt"
    path.write_text("KIRK: Go.\nSpock: Fascinating.\nMan #1: Here.\nKIRK: At last: peace.\n")
    _, report = read_transcripts(path)
    assert report.warnings == [
        f"{path}: 2 lines of 2 may have speakers that were not recognised, for example: "
        "Spock: Fascinating. | Man #1: Here. (see data.labels)"
    ]
    assert read_transcripts(path, Reading(labels="mixed"))[1].warnings == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "no line with a speaker"),
        (b"KIRK: Yes.\0\0", "not a text file"),
        (bytes(range(256)) * 4, "not a text file"),
        (b"once upon a time", "no line with a speaker"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.txt: {message}"):
        read_transcripts(path)


def test_warning_for_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.")
    (tmp_path / "2.txt").write_text("")
    _, report = read_transcripts(tmp_path)
    assert report.lines == 1
    assert report.warnings == [f"{tmp_path / '2.txt'}: the file is empty"]


def test_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.")
    (tmp_path / "season2").mkdir()
    scandir = os.scandir

    def refused(path: str) -> Any:  # simulated, because root may read everything
        if str(path).endswith("season2"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"season2: cannot be read \(Permission denied\)"):
        read_transcripts(tmp_path)


def test_missing_path_and_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read_transcripts(tmp_path / "missing")
    with pytest.raises(UserError, match="no transcript in this folder"):
        read_transcripts(tmp_path)


@pytest.fixture(scope="module")
def episodes(tos: Path) -> dict[str, list[str]]:
    return {episode.name: episode.text.splitlines() for episode in read_transcripts(tos)[0]}


class TestStarTrek:
    """All 79 real transcripts."""

    def test_lines_and_speakers(self, tos: Path) -> None:
        episodes, report = read_transcripts(tos)
        assert report.files == report.episodes == len(episodes) == 79
        assert 28_700 <= report.lines <= 29_000
        assert report.lines == sum(episode.lines for episode in episodes)
        assert not report.warnings
        # The number of lines in the files that start with each label, typing errors included.
        assert report.speakers["KIRK"] >= 9_027
        assert report.speakers["SPOCK"] >= 4_535
        assert report.speakers["T'PAU"] == 31
        assert [name for name, _ in report.speakers.most_common(5)] == [
            *("KIRK", "SPOCK", "MCCOY", "SCOTT", "SULU"),
        ]

    def test_lines_have_no_headers_scenes_or_directions(
        self, episodes: dict[str, list[str]]
    ) -> None:
        lines = [line for spoken in episodes.values() for line in spoken]
        joined = "\n".join(lines)
        for sign in "()[]{}":
            assert sign not in joined
        for header in ("Star Trek Transcripts", "Original Airdate", "Episode Number", "&gt;"):
            assert header not in joined
        scenes = {"Bridge", "Corridor", "Transporter room", "Sickbay", "Engineering"}
        pairs = [line.split(": ", 1) for line in lines]
        assert not {speaker for speaker, _ in pairs} & {scene.upper() for scene in scenes}
        assert not any(text in scenes and speaker != "KIRK" for speaker, text in pairs)

    def test_typing_errors_are_read_as_intended(self, episodes: dict[str, list[str]]) -> None:
        for name, line in [
            ("0001", "VINA: The planet's only now becoming able to support life again."),
            ("0001", "BOYCE: Boyce here."),
            ("0002", "KELSO: Small enough to bring it aboard, sir, if you want to risk it."),
            ("00017", "KIRK: Yeah. We'd better get to the glade."),
            ("00025", "SULU: Sorry, DeSalle."),
            ("00018", "SPOCK: Free, Captain?"),
        ]:
            assert line in episodes[name]
