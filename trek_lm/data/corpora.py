"""Where transcripts come from: the package, the user's files, or a verified download."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from tqdm.contrib.concurrent import thread_map

from trek_lm.data.lines import Episode, Reading, Report
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError
from trek_lm.files import cache_folder, expanded

HERE = Path(__file__).parent
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "SSLError")


@dataclass(frozen=True)
class Corpus:
    """The episodes of a corpus, and the report of reading them."""

    name: str
    episodes: list[Episode]
    report: Report

    @cached_property
    def sha256(self) -> str:
        """Hash of the lines, in order; file names, directions and encodings don't affect it."""
        digest = hashlib.sha256()
        for episode in self.episodes:
            digest.update(episode.text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


@dataclass
class Source:
    """Where a corpus comes from; `conf/data/*.yaml` selects one as `data.source`."""

    name: str
    root: Path  # the folder or file to read

    def fetch(self) -> None:
        """Downloads the files if they are missing; by default there is nothing to download."""

    def read(self, reading: Reading = Reading()) -> Corpus:
        """Reads the corpus; raises UserError if it cannot be read."""
        return Corpus(self.name, *read_transcripts(self.root, reading))


class BundledSource(Source):
    """`TAMARISK`, the corpus included in the package (CC0)."""

    def __init__(self, name: str = "bundled", root: str | None = None) -> None:
        if root is not None:
            raise UserError(
                f"data.root={root}: data=bundled has its own files; add data=files (or data=tos)"
            )
        super().__init__(name, HERE / "bundled")


class FilesSource(Source):
    """The user's own transcripts: a folder, or one file."""

    def __init__(self, name: str = "files", root: str | None = None) -> None:
        if not root:
            raise UserError("data=files needs data.root=FOLDER_OR_FILE (your transcripts)")
        super().__init__(name, expanded(root))


class DownloadSource(Source):
    """Files downloaded once into a cache folder, each verified by its SHA-256.

    With `root` they are read from there and nothing is downloaded.
    """

    def __init__(
        self, name: str, registry: str, url: str, root: str | None = None, cache: str | None = None
    ) -> None:
        """`registry`: a file in this package with lines `NAME SHA256`; `url`: their folder.

        `cache` defaults to $TREK_LM_CACHE, else to the user's cache folder.
        """
        if not _is_plain_name(name):
            raise UserError(f"data.source.name={name}: must be a plain name (of a cache folder)")
        self.registry = registry
        self.url = url
        self.is_given = bool(root)
        folder = expanded(root) if root else (expanded(cache) if cache else cache_folder()) / name
        super().__init__(name, folder)

    def fetch(self) -> None:
        """Downloads what the cache lacks; a file is complete and verified, or absent.

        Raises UserError if the server can't be reached or a file has another hash.
        """
        if self.is_given:
            return
        import pooch  # imported here because it takes half a second

        pooch.get_logger().setLevel("WARNING")
        fetcher = pooch.create(
            path=self.root,
            base_url=self.url.rstrip("/") + "/",
            registry=_read_registry(self.registry),
        )
        try:
            thread_map(
                fetcher.fetch,
                fetcher.registry,
                max_workers=8,
                desc=f"Fetching {self.name} into {self.root}",
                disable=all((self.root / name).exists() for name in fetcher.registry),
            )
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            if type(error).__name__ in UNREACHABLE:
                reason = "no connection"  # the message of requests fills a screen
            raise UserError(
                f"data={self.name}: {self.url} could not be fetched ({reason}); "
                "set data.root=FOLDER to a folder that has the files, "
                "or train on the bundled corpus with data=bundled"
            ) from error


def _read_registry(name: str) -> dict[str, str]:
    """File names and their hashes; raises UserError for a name that is a path."""
    try:
        text = (HERE / name).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise UserError(f"data.source.registry={name}: cannot be read ({error})") from error
    files = {}
    for line in text.splitlines():
        file, _, digest = line.partition(" ")
        if not (_is_plain_name(file) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise UserError(f"data.source.registry={name}: {line!r} is not NAME SHA256")
        files[file] = f"sha256:{digest}"
    return files


def _is_plain_name(name: str) -> bool:
    return name != "" and PurePath(name).name == name and not name.startswith(".")
