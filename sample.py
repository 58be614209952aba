"""Writes lines with a trained model: `python sample.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("ckpt", "speaker", "prompt")


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
@cli.job
def main(config: DictConfig) -> None:
    """Prints `n` lines, one to a line."""
    from trek_lm.checkpoints import load_model

    options = {str(key): value for key, value in config.items()}
    model = load_model(options.pop("ckpt"), options.pop("outputs"))
    for line in model.generate(**options):
        print(line)


if __name__ == "__main__":
    cli.run(main, TEXT_KEYS)
