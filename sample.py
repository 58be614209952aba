"""Writes lines with a trained model: `python sample.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli
from trek_lm.errors import UserError

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("ckpt", "outputs", "paths.outputs", "speaker[]", "prompt", "out", "score_file")


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
@cli.job
def main(config: DictConfig) -> None:
    """Prints `n` lines, one to a line; or scores lines, or asks for their starts."""
    from trek_lm.models.native.build import begin

    begin("steps")  # the first time there is something to compile, while torch is imported
    from trek_lm.console.sample import answer

    answer(config)


def single(arguments: list[str]) -> list[str]:
    """The arguments; raises UserError where they ask for a sweep, which would leave folders."""
    keys = {argument.partition("=")[0].lstrip("+~") for argument in arguments}
    if {"-m", "--multirun", "hydra.mode"} & keys:
        raise UserError("sample.py is no sweep: give a list instead, temperature=[0.3,0.7]")
    return arguments


if __name__ == "__main__":
    cli.run(main, TEXT_KEYS, single)
