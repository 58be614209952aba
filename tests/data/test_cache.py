from pathlib import Path

import pytest

from tests.support.corpora import write_episodes
from trek_lm.data import cache
from trek_lm.data.lines import Reading
from trek_lm.data.transcripts import read_transcripts


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of corpora; every corpus counts as large."""
    monkeypatch.setenv("TREK_LM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LARGE", 1)
    return tmp_path / "cache" / "corpora"


def test_large_corpus_is_read_once(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_episodes(tmp_path / "show")
    (root / "99.txt").write_text("ZO\xcb: D\xe9j\xe0 vu \U0001f680.\n(nods)\n" + "prose. " * 200)
    first = read_transcripts(root)
    (entry,) = kept.iterdir()
    moved = root.rename(tmp_path / "moved")
    monkeypatch.setattr("trek_lm.data.transcripts._read_all", lambda *_: pytest.fail("read again"))
    assert read_transcripts(moved) == first
    assert list(kept.iterdir()) == [entry]


def test_changed_content_names_or_settings_miss_the_cache(kept: Path, tmp_path: Path) -> None:
    root = write_episodes(tmp_path / "show")
    read_transcripts(root)
    read_transcripts(root, Reading(labels="any"))
    (root / "1.txt").rename(root / "11.txt")
    assert "11" in {episode.name for episode in read_transcripts(root)[0]}
    (root / "2.txt").write_text("EVE: Only this.\n")
    assert "EVE" in read_transcripts(root)[1].speakers
    assert len(list(kept.iterdir())) == 4
    (root / "2.txt").write_text("EVE: Only that.\n")
    read_transcripts(root)
    assert len(list(kept.iterdir())) == cache.KEPT == 4  # the oldest is deleted


def test_damaged_entry_is_replaced(kept: Path, tmp_path: Path) -> None:
    root = write_episodes(tmp_path / "show")
    first = read_transcripts(root)
    (entry,) = kept.iterdir()
    for damaged in ("", '{"report": {}}', entry.read_text()[:-40]):
        entry.write_text(damaged)
        assert read_transcripts(root) == first
        assert len(entry.read_text()) > 1000


def test_unwritable_cache_is_ignored(kept: Path, tmp_path: Path) -> None:
    kept.parent.write_text("a file where the folder should be")
    assert read_transcripts(write_episodes(tmp_path / "show"))[1].lines == 120


def test_small_corpus_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREK_LM_CACHE", str(tmp_path / "cache"))
    read_transcripts(write_episodes(tmp_path / "show"))
    assert not (tmp_path / "cache").exists()
