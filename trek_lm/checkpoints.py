"""Finding a checkpoint: by path, in a run's folder, or the newest one."""

import os
from pathlib import Path

from trek_lm.errors import UserError
from trek_lm.generation import CharLM


def load_model(ckpt: str, outputs: str) -> CharLM:
    """The model that `ckpt` names: a file, a run's folder, or "latest" below `outputs`.

    Raises UserError where there is none, or where it isn't one of trek-lm's.
    """
    if ckpt == "latest":
        return _newest(Path(outputs).expanduser())
    path = Path(ckpt).expanduser()
    if path.is_dir():
        inside = path / "checkpoints" / "best.ckpt"
        if not inside.is_file():
            raise UserError(f"ckpt={ckpt}: this folder has no checkpoints/best.ckpt")
        path = inside
    if not path.exists():
        raise UserError(f"ckpt={ckpt}: no such file or folder")
    return CharLM.load(path)


def _newest(outputs: Path) -> CharLM:
    """The newest run is the newest with a best.ckpt that loads."""
    found = sorted(outputs.glob("**/checkpoints/best.ckpt"), key=os.path.getmtime, reverse=True)
    for path in found:
        try:
            return CharLM.load(path)
        except UserError:
            continue
    raise UserError(
        f"{outputs}: no trained run here; train one with python train.py, or give ckpt="
    )
