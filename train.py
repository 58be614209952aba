"""Trains a character model on transcripts: `python train.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli, sweeps
from trek_lm.resume import replay

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("data.root", "resume")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@cli.job
def main(config: DictConfig) -> float:
    """One run in its own folder; gives what a sweep minimises: validation, else train loss."""
    from trek_lm.native.build import begin

    begin("sequences")  # the first time there is something to compile, while torch is imported
    # Imported here, not above: torch and Lightning take seconds that --help needn't wait for.
    from trek_lm.training import train

    return train(config)


if __name__ == "__main__":
    cli.run(sweeps.concluded(main), TEXT_KEYS, replay)
