import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import PROJECT
from trek_lm.generation.api import CharLM
from trek_lm.models.native import build
from trek_lm.models.native.build import library, start_build

pytestmark = pytest.mark.skipif(library("steps") is None, reason="no C compiler here")


def forget() -> None:
    """Clears the caches, as in a new process."""
    library.cache_clear()
    start_build.cache_clear()


@pytest.mark.parametrize(
    "how", ["off", "no compiler", "no command", "broken compiler", "no cache", "name too long"]
)
def test_generates_without_the_library(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path
) -> None:
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    # Greedy, because rounding differences may change a random draw.
    options = {"n": 5, "seed": 1, "greedy": True, "max_chars": 20}
    lines = lm.generate(**options)
    forget()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TREK_LM_CACHE", str(tmp_path / "cache"))
            if how == "off":
                patch.setenv("TREK_LM_NATIVE", "0")
            elif how == "no compiler":
                patch.setenv("CC", "no-such-compiler")
            elif how == "no command":
                patch.setenv("CC", "'")
            elif how == "broken compiler":
                patch.setenv("CC", "false")
            elif how == "name too long":  # even the lookup fails, as in an unreadable folder
                patch.setenv("TREK_LM_CACHE", str(tmp_path / ("x" * 300)))
            else:
                (tmp_path / "cache").write_text("a file")
            assert library("steps") is None
            assert lm.generate(**options) == lines
    finally:
        forget()


def test_slow_compiler_is_not_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path
) -> None:
    """PyTorch generates the text; the library is there for the next process."""
    lm = CharLM.load(run_folder / "checkpoints" / "best.ckpt")
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\nwhile [ ! -e "$0.go" ]; do sleep 0.05; done\nexec cc "$@"\n')
    slow.chmod(0o755)
    short_timeout = build.LIBRARIES["steps"]._replace(timeout=0.2)
    monkeypatch.setitem(build.LIBRARIES, "steps", short_timeout)
    with monkeypatch.context() as patch:
        patch.setenv("TREK_LM_CACHE", str(tmp_path / "cache"))
        patch.setenv("CC", str(slow))
        forget()
        assert library("steps") is None
        assert len(lm.generate(n=2, seed=1)) == 2
        slow.with_name("slow.go").touch()
        for _ in range(600):
            if list((tmp_path / "cache").glob("*.so")):
                break
            time.sleep(0.05)
        forget()
        assert library("steps") is not None
    forget()


def test_compiler_of_some_seconds_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a busy machine would generate other lines from the same seed."""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\nsleep 1\nexec cc "$@"\n')
    slow.chmod(0o755)
    forget()
    with monkeypatch.context() as patch:
        patch.setenv("TREK_LM_CACHE", str(tmp_path / "cache"))
        patch.setenv("CC", str(slow))
        assert library("steps") is not None
    forget()


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="these are flags for x86"
)
@pytest.mark.slow
@pytest.mark.parametrize("without", ["avx512bf16", "avx512f", "avx"])
def test_build_for_an_older_processor(without: str, tmp_path: Path) -> None:
    """Runs the tests marked `every_build` in a process of their own."""
    has = Path("/proc/cpuinfo").read_text().replace("_", "").split()
    if without != "avx" and without not in has:
        pytest.skip(f"this processor has no {without}: the other tests run such a build")
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nexec cc "$@" -mno-{without}\n')
    compiler.chmod(0o755)
    names = ("models/test_cells", "models/native/test_sequences", "generation/test_native_stepper")
    tests = [f"tests/{name}.py" for name in names]
    pytest_here = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_here, *tests, "-m", "every_build", "-k", "not torch"],
        cwd=PROJECT,
        env=os.environ | {"CC": str(compiler), "TREK_LM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1]  # it was built
    assert len(list((tmp_path / "cache").glob("*.so"))) == 2
