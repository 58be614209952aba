"""Writes lines with a trained model: `python sample.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("ckpt", "outputs", "speaker[]", "prompt", "out", "score_file")


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
@cli.job
def main(config: DictConfig) -> None:
    """Prints `n` lines, one to a line; or scores lines, or asks for their starts."""
    from trek_lm.checkpoints import load_model
    from trek_lm.writing import converse, score, write

    ask = converse if config.interactive else score if config.score or config.score_file else write
    ask(load_model(config.ckpt, config.outputs), config)


if __name__ == "__main__":
    cli.run(main, TEXT_KEYS)
