"""Where transcripts come from: the package, the user's files, or a checked download."""

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
    """Episodes read, and what identifies them."""

    name: str
    episodes: list[Episode]
    report: Report

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the lines, in order; file names, directions and encodings don't count."""
        digest = hashlib.sha256()
        for episode in self.episodes:
            digest.update(episode.text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


@dataclass
class Source:
    """A place that transcripts come from; `conf/data/*.yaml` names one as `data.source`."""

    name: str
    root: Path  # the folder or file to read

    def fetch(self) -> None:
        """Brings the files to this machine where they aren't here."""

    def read(self, reading: Reading = Reading()) -> Corpus:
        """Reads the corpus; raises UserError where it cannot be read."""
        return Corpus(self.name, *read_transcripts(self.root, reading))


class BundledSource(Source):
    """`TAMARISK`, the original corpus that ships inside the package (CC0)."""

    def __init__(self, name: str = "bundled", root: str | None = None) -> None:
        if root is not None:
            raise UserError(
                f"data.root={root} is not read by data=bundled: add data=files (or data=tos)"
            )
        super().__init__(name, HERE / "bundled")


class FilesSource(Source):
    """The user's own transcripts: a folder, or one file."""

    def __init__(self, name: str = "files", root: str | None = None) -> None:
        if not root:
            raise UserError("data=files needs data.root=FOLDER_OR_FILE, your transcripts")
        super().__init__(name, expanded(root))


class DownloadSource(Source):
    """Files fetched once into a cache folder, each checked against its SHA-256.

    With `root` they are read from there instead and nothing is fetched.
    """

    def __init__(
        self, name: str, registry: str, url: str, root: str | None = None, cache: str | None = None
    ) -> None:
        """`registry`: a file beside this module with lines `NAME SHA256`; `url`: their folder.

        `cache` defaults to $TREK_LM_CACHE, else to the user's cache folder.
        """
        if not _stays_in_its_folder(name):
            raise UserError(f"data.source.name={name}: must be a plain name, the cache has it")
        self.registry = registry
        self.url = url
        self.is_given = bool(root)
        folder = expanded(root) if root else (expanded(cache) if cache else cache_folder()) / name
        super().__init__(name, folder)

    def fetch(self) -> None:
        """Downloads what the cache lacks; a file is there whole and checked, or not at all.

        Raises UserError when the server can't be reached or serves something else.
        """
        if self.is_given:
            return
        import pooch  # pooch and requests cost half a second: only who downloads pays it

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
                reason = "no connection"  # what requests says of it fills a screen
            raise UserError(
                f"data={self.name}: {self.url} could not be fetched ({reason}); "
                f"give a folder that has the files with data.root=FOLDER, "
                "or train on the bundled corpus with data=bundled"
            ) from error


def _read_registry(name: str) -> dict[str, str]:
    """Files with their hashes; raises UserError for a name that leads out of the cache."""
    try:
        text = (HERE / name).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise UserError(f"data.source.registry={name}: cannot be read ({error})") from error
    files = {}
    for line in text.splitlines():
        file, _, digest = line.partition(" ")
        if not (_stays_in_its_folder(file) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise UserError(f"data.source.registry={name}: {line!r} is not NAME SHA256")
        files[file] = f"sha256:{digest}"
    return files


def _stays_in_its_folder(name: str) -> bool:
    return name != "" and PurePath(name).name == name and not name.startswith(".")
