import subprocess
from pathlib import Path

import torch

from trek_lm.runs.provenance import _commit, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_git_commit_and_dirty_flag(tmp_path: Path) -> None:
    code, installed = tmp_path / "code.py", tmp_path / "installed.py"
    for path in (code, installed):
        path.write_text("")
    assert _commit(code) == (None, None)
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("installed.py\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert _commit(code) == (head, False)
    (tmp_path / "new.yaml").write_text("")
    assert _commit(code) == (head, True)
    assert _commit(installed) == (None, None)  # the repository around it is another project


def test_provenance_of_the_metrics() -> None:
    metadata = provenance()
    assert metadata["version/torch"] == torch.__version__
    assert metadata["threads"] == torch.get_num_threads()
    assert metadata["processor"]
