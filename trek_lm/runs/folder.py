"""The files of a run's folder: paths, reading and writing. Needs no torch."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from trek_lm.errors import UserError
from trek_lm.files import expanded, read_bounded, write_text

BEST = Path("checkpoints", "best.ckpt")
LAST = Path("checkpoints", "last.ckpt")
METRICS = Path("metrics.json")
SAMPLES = Path("samples.txt")
CONFIG = Path(".hydra", "config.yaml")
OVERRIDES = Path(".hydra", "overrides.yaml")
HYDRA = Path(".hydra", "hydra.yaml")
EVENTS = "*/events.out.tfevents.*"  # deeper ones belong to runs in subfolders

LARGEST = 2**16  # bytes of metrics or settings; no run writes more
DEEPEST = 20  # nested levels of settings
SURROGATE = re.compile("[\ud800-\udfff]")  # can't be written to a file
PARTS = ("train/", "val/", "test/")
NUMBERS = ("parameters", "epochs", "steps", "train_seconds", "chars_per_second", "skipped_steps")

# The config groups that may change when a run is resumed; all others are fixed.
OPEN_KEYS = ("trainer", "callbacks", "checkpoint", "logger", "paths", "hydra")


def make_unused(path: str) -> str:
    """Makes a folder of that name, with _2, _3, ... appended if it exists, and returns its path.

    Processes that ask for the same name at the same time get different folders.
    """
    path = str(expanded(path))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        made = path if number == 1 else f"{path}_{number}"
        with suppress(FileExistsError):
            Path(made).mkdir()
            break
    return made


# Cached, so that one config has one folder in all processes of its sweep.
OmegaConf.register_new_resolver("unused", make_unused, use_cache=True, replace=True)


def shown(folder: Path) -> Path:
    """The folder as users see it: relative if it is below the current one."""
    here = Path.cwd()
    return folder.relative_to(here) if here in folder.parents else folder


def read_metrics(folder: Path) -> dict[str, Any]:
    """A run's `metrics.json`; empty if there is none or it isn't valid."""
    try:
        content = json.loads(read_bounded(folder / METRICS, LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and _are_valid(content) else {}


def _are_valid(metrics: dict[str, Any]) -> bool:
    """Whether scores and other known numbers are numbers or None, and `status`, `reason` text."""
    numbers = [metrics[key] for key in metrics if key.startswith(PARTS) or key in NUMBERS]
    texts = [metrics[key] for key in ("status", "reason") if key in metrics]
    return all(
        value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in numbers
    ) and all(isinstance(text, str | None) and not SURROGATE.search(text or "") for text in texts)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json`, which marks the run as ended."""
    write_text(folder / METRICS, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def objective(metrics: Mapping[str, Any]) -> float:
    """What runs are ranked by, lowest first: validation loss, else train loss."""
    loss = metrics.get("val/loss")
    loss = metrics.get("train/loss") if loss is None else loss
    return math.inf if loss is None else float(loss)


def write_settings(folder: Path, config: DictConfig) -> None:
    """Writes the current job's `.hydra/`, as Hydra itself would."""
    (folder / CONFIG).parent.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, OmegaConf.to_yaml(config))
    write_text(folder / OVERRIDES, OmegaConf.to_yaml(HydraConfig.get().overrides.task))
    write_text(folder / HYDRA, OmegaConf.to_yaml(HydraConfig.instance().cfg))


def read_settings(folder: Path) -> dict[str, Any]:
    """A run's composed config; raises UserError if it can't be read."""
    settings = read_yaml(folder / CONFIG)
    groups = ("data", "model", "trainer")
    if not isinstance(settings, dict) or not all(isinstance(settings.get(g), dict) for g in groups):
        raise UserError(f"{folder / CONFIG}: not a run's settings")
    return settings


def read_overrides(folder: Path) -> list[str]:
    """A run's command-line overrides; raises UserError if they can't be read."""
    overrides = read_yaml(folder / OVERRIDES)
    if not isinstance(overrides, list):
        raise UserError(f"{folder / OVERRIDES}: not a list of overrides")
    return [str(override) for override in overrides]


def read_search_path(folder: Path) -> list[Path]:
    """A run's config folders besides `conf/`; raises UserError if they aren't recorded."""
    sources = _hydra_setting(folder, list, "runtime", "config_sources")
    own = [s for s in sources if isinstance(s, dict) and s.get("schema") == "file"]
    return [read_start(folder) / str(s.get("path")) for s in own if s.get("provider") != "main"]


def read_start(folder: Path) -> Path:
    """The folder where a run was started, the base of its relative paths.

    Raises UserError if it isn't recorded.
    """
    return Path(_hydra_setting(folder, str, "runtime", "cwd"))


def read_choices(folder: Path) -> dict[str, str]:
    """The option chosen from each config group; raises UserError if they aren't recorded."""
    return dict(_hydra_setting(folder, dict, "runtime", "choices"))


def _hydra_setting(folder: Path, kind: type, *keys: str) -> Any:
    found = read_yaml(folder / HYDRA)
    for key in ("hydra", *keys):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, kind):
        raise UserError(f"{folder / HYDRA}: not a run's Hydra settings")
    return found


def read_yaml(path: Path) -> Any:
    """The content of a YAML file in `.hydra/`; raises UserError if it can't be read."""
    from yaml import YAMLError

    try:
        text = read_bounded(path, LARGEST).decode("utf-8")
        _check_yaml(text)
        return OmegaConf.to_container(OmegaConf.create(text))
    except (OSError, YAMLError, ValueError, AssertionError) as error:
        reason = (str(error) or "no settings").splitlines()[0]
        raise UserError(f"{path}: cannot be read ({reason})") from error


def _check_yaml(text: str) -> None:
    """Raises ValueError for YAML that would expand hugely or take long to parse."""
    import yaml

    # The scanner in C: the Python one takes seconds for a few thousand brackets.
    level = 0
    for token in yaml.scan(text, Loader=yaml.CSafeLoader):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("it has an alias, which trek-lm never writes")
        name = type(token).__name__
        level += name.endswith("StartToken") - name.endswith("EndToken")
        if level > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard shows for a run: steps and values by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted({file.parent for file in folder.glob(EVENTS)}):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            curves[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return curves


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested dict by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    dot = f"{prefix}." if prefix else ""
    return {k: v for name, part in tree.items() for k, v in flat(part, f"{dot}{name}").items()}


def differences(before: Any, now: Any, ignored: tuple[str, ...]) -> Iterator[str]:
    """`KEY: OLD -> NEW` for each setting that differs, except in the groups `ignored`."""
    before, now, missing = flat(before), flat(now), "(nothing)"
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key, missing), now.get(key, missing)
        if old != new and key.split(".")[0] not in ignored:
            yield f"{key}: {old} -> {new}"
