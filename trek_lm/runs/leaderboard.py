"""Compares runs, best first, from nothing but their folders.

python -m trek_lm.leaderboard FOLDER... [--seconds S]

A folder holds a run, a sweep, or several of them. For one folder with several runs, the
leaderboard is also written there, as leaderboard.md and leaderboard.csv.
"""

import argparse
import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Self

from trek_lm.errors import UserError
from trek_lm.files import write_text
from trek_lm.runs.folder import (
    HYDRA,
    flat,
    objective,
    read_choices,
    read_curves,
    read_metrics,
    read_overrides,
    read_settings,
)
from trek_lm.terminal import printable

SEEDS = ("seed", "data.seed")
CORPUS = "corpus"  # column if the text changed between runs: its hash's first digits
COMMIT = "git_commit"  # column if runs with equal settings are from different commits
SOURCES = ("data", *(f"data.{key}" for key in ("root", "format", "labels", "series")))
# Groups of overrides that don't affect the results.
SILENT_KEYS = ("hydra", "callbacks", "checkpoint", "logger", "paths", "resume", "sweep")
FIGURES = {
    "val loss": ("val/loss", "{:.4f}"),
    "val acc": ("val/acc", "{:.4f}"),
    "test acc": ("test/acc", "{:.4f}"),
    "test bits/char": ("test/bpc", "{:.3f}"),
    "parameters": ("parameters", "{:,}"),
    "epochs": ("epochs", "{:.3g}"),
    "chars/s": ("chars_per_second", "{:,.0f}"),
    "seconds": ("train_seconds", "{:.0f}"),
}
# Metrics that don't depend on the epoch.
LASTING = ("parameters", "chars_per_second", "corpus_sha256", "status", "reason")
WITHOUT_VAL = {"train loss": ("train/loss", "{:.4f}"), "train acc": ("train/acc", "{:.4f}")}


@dataclass(frozen=True)
class Row:
    """One run, read from its folder."""

    folder: Path
    metrics: dict[str, Any]  # of metrics.json; empty before the run ends
    given: tuple[str, ...]  # the keys of its overrides
    config: dict[str, Any]
    choices: dict[str, str]  # the option chosen from each group

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The run in a folder; raises UserError if its settings can't be read."""
        keys = (item.partition("=")[0].lstrip("+~") for item in read_overrides(folder))
        given = tuple(key for key in keys if re.split(r"[./]", key)[0] not in SILENT_KEYS)
        choices = read_choices(folder)
        return cls(folder, read_metrics(folder), given, read_settings(folder), choices)

    @property
    def status(self) -> str:
        return str(self.metrics.get("status", "unfinished"))

    def value(self, key: str) -> Any:
        """The value of a setting, overridden or not, of `CORPUS`, a version or the commit."""
        if key in (CORPUS, COMMIT):
            return str(self.metrics.get("corpus_sha256" if key == CORPUS else key) or "")[:8]
        if key.startswith("version/"):
            return self.metrics.get(key)
        return self.choices[key] if key in self.choices else _setting(self.config, key)

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Sort key: finished runs first, then those with a validation loss, then by loss."""
        held_out = self.metrics.get("val/loss") is not None
        return self.status != "finished", not held_out, objective(self.metrics)

    def within(self, seconds: float) -> Self:
        """The run after the last epoch that ended within `seconds` of training."""
        curves = read_curves(self.folder)
        epochs = curves.get("train/seconds", [])
        ended = [end for end in accumulate(lasted for _, lasted in epochs) if end <= seconds]
        last = epochs[len(ended) - 1][0] if ended else -1
        metrics = {key: self.metrics[key] for key in LASTING if key in self.metrics}
        metrics |= {"epochs": len(ended), "train_seconds": ended[-1] if ended else 0.0}
        for name, points in curves.items():
            values = [value for step, value in points if step <= last]
            if values and name.endswith(("/loss", "/acc", "/bpc")):
                metrics[name] = values[-1]
        return replace(self, metrics=metrics)


def _setting(config: dict[str, Any], key: str, hops: int = 5) -> Any:
    """A setting's value; follows references to other settings.

    OmegaConf would also resolve other interpolations, such as the environment's variables, which
    is unsafe in files from others.
    """
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    reference = isinstance(value, str) and re.fullmatch(r"\$\{([\w.]+)\}", value)
    return _setting(config, reference[1], hops - 1) if reference and hops else value


class Leaderboard:
    """Runs by validation loss, or by train loss if nothing was held out; failed ones last."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = sorted(rows, key=lambda row: row.rank)
        keys = dict.fromkeys(key for row in self.rows for key in row.given)
        self.varied = [key for key in keys if len({str(row.value(key)) for row in self.rows}) > 1]
        if self._corpus_changed():
            self.varied.append(CORPUS)
        self.varied += self._hidden_differences()

    @property
    def unfinished(self) -> list[Row]:
        """The runs that failed or haven't finished."""
        return [row for row in self.rows if row.status != "finished"]

    @classmethod
    def of(cls, folders: Sequence[Path], seconds: float | None = None) -> Self:
        """All runs in and below these folders; raises UserError if a folder has none."""
        found = []
        for folder in folders:
            runs = sorted(path.parent.parent for path in folder.glob(f"**/{HYDRA}"))
            if not runs:
                raise UserError(f"{folder}: {'no run in it' if folder.exists() else 'not found'}")
            found += runs
        rows = (Row.of(run) for run in dict.fromkeys(found))
        return cls(row if seconds is None else row.within(seconds) for row in rows)

    def text(self, above: Path | None = None) -> str:
        """The leaderboard as Markdown; runs are named by their folders relative to `above`."""
        held_out = any(row.metrics.get("val/loss") is not None for row in self.rows)
        figures = FIGURES if held_out else WITHOUT_VAL | dict(list(FIGURES.items())[2:])
        rows = [
            [_shown(row.folder, above), *self._settings(row), *_figures(row, figures), row.status]
            for row in self.rows
        ]
        parts = [_table(["run", *self.varied, *figures, "status"], rows)]
        parts += [
            f"{_shown(row.folder, above)}: {row.metrics['reason']}"
            for row in self.rows
            if row.metrics.get("reason")
        ]
        if seeds := self._over_seeds(figures):
            parts.append(seeds)
        return "\n\n".join(parts) + "\n"

    def csv(self, above: Path | None = None) -> str:
        """The leaderboard with everything in `metrics.json`, one row per run."""
        found = dict.fromkeys(name for row in self.rows for name in row.metrics)
        names = [name for name in found if name not in self.varied]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", *self.varied, *names])
        for row in self.rows:
            values = [row.metrics.get(name) for name in names]
            writer.writerow([_shown(row.folder, above), *self._settings(row), *values])
        return file.getvalue()

    def write(self, folder: Path) -> None:
        """Writes leaderboard.md and leaderboard.csv."""
        write_text(folder / "leaderboard.md", self.text(folder))
        write_text(folder / "leaderboard.csv", self.csv(folder))

    def _corpus_changed(self) -> bool:
        """Whether runs that read the same files found different text in them."""
        found: dict[tuple[str, ...], set[str]] = {}
        for row in self.rows:
            if corpus := row.value(CORPUS):
                source = tuple(str(row.value(key)) for key in SOURCES)
                found.setdefault(source, set()).add(corpus)
        return any(len(corpora) > 1 for corpora in found.values())

    def _hidden_differences(self) -> list[str]:
        """Settings, versions and commits that differ between runs whose columns are equal."""
        shown = [key for key in self.varied if key not in SEEDS]
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            alike.setdefault(tuple(str(row.value(key)) for key in shown), []).append(row)
        found: dict[str, None] = {}
        for rows in alike.values():
            settings = dict.fromkeys(key for row in rows for key in flat(row.config))
            recorded = dict.fromkeys(key for row in rows for key in row.metrics)
            for key in (*settings, *recorded):
                values = {str(row.value(key)) for row in rows}
                if key in recorded:  # a run that failed records no versions
                    values -= {"", "None"}
                compared = key in settings or re.match("version/|git_commit", key)
                hidden = key in SEEDS or key.split(".")[0] in SILENT_KEYS
                if len(values) > 1 and compared and not hidden:
                    found[key] = None
        return [*found]

    def _settings(self, row: Row) -> list[str]:
        return [_plain(row.value(key)) for key in self.varied]

    def _over_seeds(self, figures: dict[str, tuple[str, str]]) -> str:
        """Mean and sample standard deviation of the finished runs that differ only by seed."""
        keys = [key for key in self.varied if key not in SEEDS]
        finished = [row for row in self.rows if row.status == "finished"]

        def same(row: Row) -> list[str]:
            return [_plain(row.value(key)) for key in keys]

        groups = [(k, list(rows)) for k, rows in groupby(sorted(finished, key=same), key=same)]
        if len(keys) == len(self.varied) or all(len(rows) < 2 for _, rows in groups):
            return ""
        groups.sort(key=lambda group: mean(objective(row.metrics) for row in group[1]))
        body = [
            [*values, str(len(rows)), *(_spread(rows, *figure) for figure in figures.values())]
            for values, rows in groups
        ]
        return _table([*keys, "runs", *figures], body)


def _figures(row: Row, figures: dict[str, tuple[str, str]]) -> list[str]:
    values = ((row.metrics.get(name), form) for name, form in figures.values())
    return ["" if value is None else _cell(value, form) for value, form in values]


def _cell(value: float, form: str) -> str:
    return form.format(value) if abs(value) < 1e12 else f"{value:.3g}"  # diverged


def _spread(rows: Sequence[Row], name: str, form: str) -> str:
    values = [row.metrics[name] for row in rows if row.metrics.get(name) is not None]
    if not values:
        return ""
    if len(set(values)) == 1:
        return form.format(values[0])
    return f"{form.format(mean(values))} ± {form.format(stdev(values))}"


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _shown(folder: Path, above: Path | None) -> str:
    return str(folder.relative_to(above) if above and above in folder.parents else folder)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, aligned as plain text; columns of numbers to the right."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [head, *rows]]
    columns = list(zip(*cells, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [any(column[1:]) and all(map(_is_figure, column[1:])) for column in columns]
    lines = [
        " | ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in cells
    ]
    rule = (
        f"{'-' * (w + 1)}:" if to_right else "-" * (w + 2)
        for w, to_right in zip(widths, right, strict=True)
    )
    return "\n".join(
        [f"| {lines[0]} |", f"|{'|'.join(rule)}|", *(f"| {line} |" for line in lines[1:])]
    )


def _is_figure(cell: str) -> bool:
    return not cell.strip("0123456789.,±e+- ")


def main(arguments: Sequence[str]) -> None:
    """Prints the leaderboard of the folders; writes it if it is one folder with several runs."""
    parser = argparse.ArgumentParser("python -m trek_lm.leaderboard", description=__doc__)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    parser.add_argument(
        "--seconds",
        type=float,
        help="compare the runs after so many seconds of training; nothing is written",
    )
    given = parser.parse_args(arguments)
    if given.seconds is not None and not 0 < given.seconds < math.inf:
        raise UserError(f"--seconds={given.seconds}: must be a number above 0")
    board = Leaderboard.of(given.folders, given.seconds)
    above = given.folders[0] if len(given.folders) == 1 else Path.cwd()
    print(printable(board.text(above)), end="")
    if len(given.folders) == 1 and len(board.rows) > 1 and given.seconds is None:
        board.write(above)
