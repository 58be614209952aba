"""`resume=FOLDER|latest`: a run's own command line again, in its own folder.

Read before Hydra composes a config: what a run was made of stands in its `.hydra/`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trek_lm.errors import UserError

KEY = "resume"
# What may be set anew; all else makes a run what it is.
OPEN_KEYS = ("trainer", "callbacks", "logger")

OUTPUTS = Path("outputs")
CONF = Path(__file__).resolve().parent.parent / "conf"


def replay(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments as typed, but with `resume=` those of the run that it names.

    What is given besides is put after the run's own. Raises UserError where there is nothing to
    go on from, for a key that may not change, and where the configs in `conf/` no longer make of
    the run what it was.
    """
    given = [argument for argument in arguments if argument.partition("=")[0] == KEY]
    others = [argument for argument in arguments if argument not in given]
    value = given[-1].partition("=")[2].strip("'\"") if given else ""
    if value in ("", "null"):
        return others
    for argument in others:
        _check(argument)
    folder = _newest(OUTPUTS) if value == "latest" else Path(value).expanduser()
    own = _own_overrides(folder)
    _check_unchanged(folder, own)
    return [
        *own,
        *others,
        # With pluses it isn't replayed once more by the processes that Lightning starts with
        # these arguments, one for each further device.
        f"++{KEY}={folder}",
        f"hydra.run.dir={folder}",
        "hydra.output_subdir=null",  # .hydra/ stays as it is until the run really goes on
    ]


def _check(argument: str) -> None:
    if argument in ("-m", "--multirun"):
        raise UserError("resume goes on with one run; without -m it may be a member of a sweep too")
    key = argument.partition("=")[0].lstrip("+~")
    if not argument.startswith("-") and key.split(".")[0] not in OPEN_KEYS:
        raise UserError(
            f"{key}: fixed when the run began, resume takes only {', '.join(OPEN_KEYS)}; "
            "start a new run instead"
        )


def _newest(outputs: Path) -> Path:
    """The run that was last at work."""
    found = max(outputs.glob("**/checkpoints/last.ckpt"), key=os.path.getmtime, default=None)
    if found is None:
        raise UserError(f"resume=latest: no run in {outputs}/ to go on with")
    return found.parent.parent


def _own_overrides(folder: Path) -> list[str]:
    from omegaconf import OmegaConf

    if not folder.is_dir():
        raise UserError(f"resume={folder}: no such folder")
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise UserError(f"resume={folder}: not a run's folder (it has no .hydra/overrides.yaml)")
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(f"resume={folder}: it has no checkpoints/last.ckpt to go on from")
    overrides = [str(override) for override in OmegaConf.load(path)]
    return [override for override in overrides if override.partition("=")[0] != f"++{KEY}"]


def _check_unchanged(folder: Path, own: list[str]) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        now = _flat(OmegaConf.to_container(compose("train", own)))
    before = _flat(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml")))
    missing = "(nothing)"
    changed = [
        f"{key}: {before.get(key, missing)} -> {now.get(key, missing)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing) and key != KEY
    ]
    if changed:
        raise UserError(
            f"resume={folder}: conf/ has changed since the run began ({'; '.join(changed)})"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    dot = f"{prefix}." if prefix else ""
    return {k: v for name, part in tree.items() for k, v in _flat(part, f"{dot}{name}").items()}
