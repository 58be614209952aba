"""The import order of the packages: each imports only packages below it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import PROJECT

PACKAGE = PROJECT / "trek_lm"
BASE = {"errors", "settings", "files", "terminal", "signals", "overrides", "help", "cli"}
# From the bottom up; packages of one level don't import each other.
LEVELS = [
    BASE,
    {"data", "models"},
    {"generation"},
    {"training"},
    {"runs"},
    {"evaluation", "export"},
    {"console"},
]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))
ENTRY_POINTS = {path for path in PACKAGE.glob("*.py") if path.stem not in BASE | {"__init__"}}


def level(package: str) -> int:
    return next(number for number, packages in enumerate(LEVELS) if package in packages)


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, root: str = "trek_lm") -> Iterator[str]:
    """Dotted names that a module imports from a package, anywhere in its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == root)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    if path in ENTRY_POINTS:
        return
    own = package_of(path)
    above = [name for name in imports_of(path) if level(name.split(".")[1]) > level(own)]
    assert above == []
    beside = {name.split(".")[1] for name in imports_of(path)} - {own}
    assert own in BASE or not beside & LEVELS[level(own)]


@pytest.mark.parametrize("library", ["torch", "pytorch_lightning"])
def test_base_modules_do_not_import_torch(library: str) -> None:
    assert [name for name in BASE if any(imports_of(PACKAGE / f"{name}.py", library))] == []


def test_no_import_cycles() -> None:
    files = {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in MODULES}
    graph = {
        module: {
            known
            for name in imports_of(path)
            for known in (name, name.rpartition(".")[0])
            if known in files
        }
        for module, path in files.items()
    }
    while leaves := {module for module, below in graph.items() if not below & graph.keys()}:
        graph = {module: below for module, below in graph.items() if module not in leaves}
    assert graph == {}


def test_at_most_twelve_modules_outside_packages() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12
    for path in ENTRY_POINTS:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 15


def test_each_package_documents_input_and_output() -> None:
    for init in PACKAGE.glob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
        assert docstring, init
        assert all(re.search(rf"\b{word}\b", docstring) for word in ("in", "out")), init


def test_no_test_file_imports_another() -> None:
    for path in (PROJECT / "tests").rglob("*.py"):
        assert [name for name in imports_of(path, "tests") if ".test_" in name] == [], path


def test_tests_mirror_the_package() -> None:
    tests = PROJECT / "tests"
    others = {"benchmarks", "fixtures", "support"}
    folders = {path.relative_to(tests) for path in tests.rglob("*") if path.is_dir()}
    for folder in folders:
        if folder.parts[0] not in others and folder.name != "__pycache__":
            assert (PACKAGE / folder).is_dir(), folder
