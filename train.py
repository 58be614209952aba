"""Trains a character model on transcripts: `python train.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli
from trek_lm.runs import sweep
from trek_lm.runs.replay import replay

# The values of these keys are taken literally, without Hydra's grammar.
TEXT_KEYS = ("data.root", "paths.outputs", "resume")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@cli.job
def main(config: DictConfig) -> float:
    """Trains one run in its own folder; returns the validation loss, else the train loss."""
    from trek_lm.models.native.build import start_build

    start_build("sequences")  # compiles the C engine if needed, while torch is imported
    # Imported here so that --help doesn't wait seconds for torch and Lightning.
    from trek_lm.runs.train import train

    return train(config)


if __name__ == "__main__":
    cli.run(sweep.with_leaderboard(main), TEXT_KEYS, replay)
