import hashlib
import re
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

from trek_lm.data.corpora import BundledSource, DownloadSource, FilesSource
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError


class TestBundled:
    def test_size_and_format(self) -> None:
        corpus = BundledSource().read()
        report = corpus.report
        assert not report.warnings
        assert report.episodes == report.files == 24
        assert report.characters > 300_000
        assert set(report.skipped) == {"header", "scene", "stage direction"}
        assert {"ASHGROVE", "O'DRAY", "MEHL"} <= set(report.speakers)

    def test_files_are_plain_ascii(self) -> None:
        for path in BundledSource().root.glob("*.txt"):
            text = path.read_text(encoding="ascii")
            assert text.endswith("\n")
            assert not re.search(r"[\t\r\"]| $", text, re.MULTILINE), path.name

    def test_no_40_characters_occur_more_than_twice(self) -> None:
        text = "\n".join(p.read_text() for p in sorted(BundledSource().root.glob("*.txt")))
        passages = Counter(text[start : start + 40] for start in range(len(text) - 39))
        assert [passage for passage, count in passages.items() if count > 2] == []

    def test_compresses_like_real_transcripts(self, tos: Path) -> None:
        ours = b"".join(p.read_bytes() for p in sorted(BundledSource().root.glob("*.txt")))
        real = b"".join(p.read_bytes() for p in sorted(tos.glob("*.txt")))[: len(ours)]
        ratio = len(zlib.compress(ours, 9)) / len(zlib.compress(real, 9))
        assert 0.85 < ratio < 1.15

    def test_no_speaker_is_from_star_trek(self, tos: Path) -> None:
        assert not set(BundledSource().read().report.speakers) & set(
            read_transcripts(tos)[1].speakers
        )

    def test_root_is_refused(self) -> None:
        with pytest.raises(UserError, match="data=files"):
            BundledSource(root="somewhere")


class TestFiles:
    def test_sha256_depends_on_the_lines_only(self, tmp_path: Path) -> None:
        digests = []
        for folder, text in [("a", "A: Yes."), ("b", "(nods)\nA [OC]: Yes.\n"), ("c", "A: No.")]:
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "1.txt").write_text(text)
            digests.append(FilesSource(root=str(tmp_path / folder)).read().sha256)
        assert digests[0] == digests[1] != digests[2]

    def test_root_is_required(self) -> None:
        with pytest.raises(UserError, match=r"data=files needs data\.root"):
            FilesSource()


class TestDownload:
    """Over real HTTP, from a server on this machine."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[tuple[Path, str]]:
        served = tmp_path / "served"
        served.mkdir()
        handler = partial(_Quiet, directory=str(served))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
            threading.Thread(target=http.serve_forever, daemon=True).start()
            yield served, f"http://127.0.0.1:{http.server_port}"
            http.shutdown()

    @staticmethod
    def source(url: str, cache: Path) -> DownloadSource:
        return DownloadSource("tos", "tos.registry", url, cache=str(cache))

    def test_files_are_fetched_once(
        self, server: tuple[Path, str], tos: Path, tmp_path: Path
    ) -> None:
        served, url = server
        copy_transcripts(tos, served)
        source = self.source(url, tmp_path / "cache")
        source.fetch()
        assert source.read().sha256 == FilesSource(root=str(tos)).read().sha256
        assert len(list((tmp_path / "cache" / "tos").iterdir())) == 79
        for path in served.iterdir():
            path.unlink()
        self.source(url, tmp_path / "cache").fetch()  # no request is made again

    def test_eight_processes_fetch_concurrently(
        self, server: tuple[Path, str], tos: Path, tmp_path: Path
    ) -> None:
        """Each reads the complete corpus, and no other file is left."""
        served, url = server
        cache = tmp_path / "cache" / "tos"
        cache.mkdir(parents=True)
        copy_transcripts(tos, served)
        (cache / "0001.txt").write_bytes(b"half a fi")
        fetching = (
            "import sys; from trek_lm.data.corpora import DownloadSource;"
            "source = DownloadSource('tos', 'tos.registry', sys.argv[1], cache=sys.argv[2]);"
            "input(); source.fetch(); print(source.read().sha256)"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", fetching, url, str(cache.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        ends = [process.communicate() for process in processes]
        whole = FilesSource(root=str(tos)).read().sha256
        assert [out.splitlines()[-1:] for out, _ in ends] == [[whole]] * 8, ends
        assert {p.name: p.read_bytes() for p in cache.iterdir()} == {
            p.name: p.read_bytes() for p in tos.glob("*.txt")
        }

    @pytest.mark.parametrize("name", ["../x.txt", "/tmp/x.txt", "a/../../x.txt", "..", ".x", ""])
    def test_no_file_is_written_outside_the_cache(
        self, server: tuple[Path, str], name: str, tmp_path: Path
    ) -> None:
        content = b"KIRK: Out.\n"
        (server[0] / "x.txt").write_bytes(content)
        registry = tmp_path / "their.registry"
        registry.write_text(f"{name} {hashlib.sha256(content).hexdigest()}\n")
        before = files_below(tmp_path)
        with pytest.raises(UserError, match=r"their\.registry: '.*' is not NAME SHA256"):
            DownloadSource("it", str(registry), server[1], cache=str(tmp_path / "c")).fetch()
        with pytest.raises(UserError, match=r"data\.source\.name=.*: must be a plain name"):
            DownloadSource(name, "tos.registry", server[1], cache=str(tmp_path / "c"))
        assert files_below(tmp_path) == before

    @pytest.mark.parametrize("content", ["x.txt", "x.txt md5:abc", "x.txt  two", "\u20ac"])
    def test_invalid_registry_is_refused(self, content: str, tmp_path: Path) -> None:
        registry = tmp_path / "their.registry"
        registry.write_text(content)
        with pytest.raises(UserError, match=r"data\.source\.registry=.*their\.registry"):
            DownloadSource("it", str(registry), "", cache=str(tmp_path)).fetch()

    def test_damaged_cached_file_is_fetched_again(
        self, server: tuple[Path, str], tos: Path, tmp_path: Path
    ) -> None:
        served, url = server
        cache = tmp_path / "cache" / "tos"
        cache.mkdir(parents=True)
        copy_transcripts(tos, cache)
        (cache / "0001.txt").write_bytes(b"half a fi")
        (served / "0001.txt").write_bytes((tos / "0001.txt").read_bytes())
        self.source(url, tmp_path / "cache").fetch()
        assert (cache / "0001.txt").read_bytes() == (tos / "0001.txt").read_bytes()

    def test_wrong_hash_is_refused_and_not_cached(
        self, server: tuple[Path, str], tmp_path: Path
    ) -> None:
        served, url = server
        names = [line.split()[0] for line in _registry().splitlines()]
        for name in names:
            (served / name).write_text("KIRK: This is not what it should be.")
        with pytest.raises(UserError, match=r"could not be fetched .*hash"):
            self.source(url, tmp_path / "cache").fetch()
        assert files_below(tmp_path / "cache") == []

    def test_interrupted_download_leaves_nothing(
        self, server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, url = server
        for line in _registry().splitlines():
            (served / line.split()[0]).write_bytes(b"x" * 50_000)

        def half(self: SimpleHTTPRequestHandler, source: IO[bytes], output: IO[bytes]) -> None:
            output.write(source.read(20_000))  # the header says 50,000

        monkeypatch.setattr(SimpleHTTPRequestHandler, "copyfile", half)
        with pytest.raises(UserError, match="could not be fetched"):
            self.source(url, tmp_path / "cache").fetch()
        assert files_below(tmp_path / "cache") == []

    def test_unreachable_server_is_reported(self, tmp_path: Path) -> None:
        source = self.source("http://127.0.0.1:9", tmp_path / "cache")
        with pytest.raises(UserError, match=r"no connection.*data\.root=FOLDER.*data=bundled"):
            source.fetch()
        assert files_below(tmp_path / "cache") == []

    def test_missing_file_on_the_server_is_reported(
        self, server: tuple[Path, str], tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="404"):
            self.source(server[1], tmp_path / "cache").fetch()

    def test_root_disables_fetching(self, corpus: Path) -> None:
        source = DownloadSource("tos", "tos.registry", "http://127.0.0.1:9", root=str(corpus))
        source.fetch()
        assert source.read().report.files == 10

    def test_cache_folder_from_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TREK_LM_CACHE", str(tmp_path))
        assert DownloadSource("tos", "tos.registry", "").root == tmp_path / "tos"


def copy_transcripts(source: Path, target: Path) -> None:
    for path in source.glob("*.txt"):
        (target / path.name).write_bytes(path.read_bytes())


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _registry(name: str = "tos") -> str:
    import trek_lm.data.corpora as module

    assert module.__file__
    return (Path(module.__file__).parent / f"{name}.registry").read_text()


@pytest.mark.parametrize(
    ("name", "folder"), [("tos", "startrek/tos"), ("shakespeare", "tinyshakespeare")]
)
def test_registry_matches_the_real_files(name: str, folder: str, real_data: Path) -> None:
    lines = dict(map(str.split, _registry(name).splitlines()))
    assert lines == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (real_data / folder).glob("*.txt")
    }
