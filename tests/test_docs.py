"""README and docs/: links resolve, commands compose, pages stay short, figures agree."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

import sample
import train
from tests.support.commands import PROJECT
from trek_lm.overrides import check_names, quote_text

README = PROJECT / "README.md"
PAGES = [README, *(PROJECT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
PAGES += sorted((PROJECT / "docs").glob("*.md"))


def prose(page: Path) -> str:
    """A page without its code blocks and code spans."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(PROJECT), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_names_in_code_exist(page: Path) -> None:
    """Tests, files and programs of the project that a page names."""
    text = page.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"\btest_\w+(?![\w.])", text)) - {"test_fraction"}:
        assert f"def {name}" in sources or (name.endswith("_") and name in sources), name
    for path in re.findall(r"`((?:tests|trek_lm|conf)/[\w./-]+)`", text):
        assert "NAME" in path or (PROJECT / path).exists(), path
    for module in re.findall(r"python -m (tests[\w.]+)", text):
        assert (PROJECT / f"{module.replace('.', '/')}.py").exists(), module


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The script and the arguments of each train.py and sample.py command in sh blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for script in {"train.py", "sample.py"} & set(words):
                arguments = words[words.index(script) + 1 :]
                ends = [n for n, word in enumerate(arguments) if word in ("&&", "|", ">", ";")]
                yield script, arguments[: min(ends, default=None)]


COMMANDS = sorted({(script, *given) for page in PAGES for script, given in commands(page)})


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_compose(command: tuple[str, ...]) -> None:
    """The first two members of a sweep; launchers are extras, so only their names count."""
    script, *arguments = command
    if {"--help", "--cfg", "-h"} & set(arguments):
        return
    keys = {"train.py": train.TEXT_KEYS, "sample.py": sample.TEXT_KEYS}[script]
    check_names(arguments)
    overrides = quote_text([word for word in arguments if not word.startswith("-")], keys)
    kept = [word for word in overrides if "hydra/launcher" not in word and "launcher." not in word]
    parsed = OverridesParser.create().parse_overrides(kept)
    members = [kept]
    if "-m" in arguments or any(word.startswith("sweep=") for word in arguments):
        (members,) = BasicSweeper.split_arguments(parsed, None)
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        for member in itertools.islice(members, 2):
            compose(script.removesuffix(".py"), member, return_hydra_config=True)


def test_pages_are_short() -> None:
    lengths = {page.name: len(page.read_text("utf-8").splitlines()) for page in PAGES}
    assert lengths.pop("README.md") <= 150
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([\w.]+)\)", README.read_text("utf-8")))
    assert linked == {page.name for page in (PROJECT / "docs").glob("*.md")}


def cells(page: Path, command: str) -> list[str]:
    """The first row of a table that begins with a command, without that cell."""
    row = re.search(rf"^\| `{re.escape(command)}` \|(.*)\|$", page.read_text("utf-8"), re.M)
    assert row, command
    return [cell.strip() for cell in row[1].split("|")]


@pytest.mark.parametrize("recipe", ["fast", "best", "best_shakespeare"])
def test_readme_has_the_figures_of_the_recipes(recipe: str) -> None:
    _, accuracy, bits, _ = cells(README, f"python train.py experiment={recipe}")
    *_, measured, _, measured_bits = cells(PROJECT / "docs/recipes.md", recipe)
    assert accuracy == f"{float(measured.split()[0]):.3f}"
    assert bits == measured_bits.split()[0]


def test_readme_has_the_figures_of_the_default_run() -> None:
    _, accuracy, bits, _ = cells(README, "python train.py")
    _, measured, measured_bits, *_ = cells(PROJECT / "docs/benchmarks.md", "python train.py")
    assert (accuracy, bits) == (f"{float(measured):.3f}", measured_bits)
