"""Trains a character model on transcripts: `python train.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli
from trek_lm.runs import sweep
from trek_lm.runs.replay import replay

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("data.root", "paths.outputs", "resume")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@cli.job
def main(config: DictConfig) -> float:
    """One run in its own folder; gives what a sweep minimises: validation, else train loss."""
    from trek_lm.models.native.build import begin

    begin("sequences")  # the first time there is something to compile, while torch is imported
    # Imported here, not above: torch and Lightning take seconds that --help needn't wait for.
    from trek_lm.runs.train import train

    return train(config)


if __name__ == "__main__":
    cli.run(sweep.concluded(main), TEXT_KEYS, replay)
