"""Generates lines with a trained model: `python sample.py --help` lists all keys."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli
from trek_lm.errors import UserError

# The values of these keys are taken literally, not parsed by Hydra's grammar.
TEXT_KEYS = ("ckpt", "outputs", "paths.outputs", "speaker[]", "prompt", "out", "score_file")


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
@cli.job
def main(config: DictConfig) -> None:
    """Prints generated lines or scores, or starts an interactive session."""
    from trek_lm.models.native.build import start_build

    start_build("steps")  # compiles C code, on first use, while torch is imported
    from trek_lm.console.sample import answer

    answer(config)


def refuse_sweep(arguments: list[str]) -> list[str]:
    """Returns the arguments; raises UserError for a sweep, which would create folders."""
    keys = {argument.partition("=")[0].lstrip("+~") for argument in arguments}
    if {"-m", "--multirun", "hydra.mode"} & keys:
        raise UserError("sample.py has no sweeps; use a list instead, temperature=[0.3,0.7]")
    return arguments


if __name__ == "__main__":
    cli.run(main, TEXT_KEYS, refuse_sweep)
