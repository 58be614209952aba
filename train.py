"""Trains a character model on transcripts: `python train.py --help` lists what can be set."""

import hydra
from omegaconf import DictConfig

from trek_lm import cli
from trek_lm.resume import replay

# Their values are taken as typed, whatever Hydra's grammar makes of them.
TEXT_KEYS = ("data.root", "resume")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@cli.job
def main(config: DictConfig) -> float:
    """One run in its own folder; gives what a sweep minimises: validation, else train loss."""
    # Imported here, not above: torch and Lightning take seconds that --help needn't wait for.
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from trek_lm import runs
    from trek_lm.machine import choose_precision, quiet, seed_everything
    from trek_lm.module import CharModule

    quiet()
    seed_everything(config.seed)
    run = runs.Run(HydraConfig.get().runtime.output_dir)
    if config.resume and run.is_finished(config.trainer):
        return run.objective

    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    model = instantiate(config.model, symbols=len(data.charset))
    module = CharModule(
        model,
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        charset=data.charset,
        speakers=data.speakers,
    )
    callbacks = instantiate(config.callbacks)
    trainer = instantiate(
        config.trainer,
        precision=choose_precision(config.trainer.precision, config.trainer.accelerator),
        logger=instantiate(config.logger, save_dir=run.folder),
        callbacks=list(callbacks.values()),
    )
    module.check(trainer)
    if config.resume:
        run.go_on(config, trainer, data)
    trainer.fit(module, data, ckpt_path=run.last if config.resume else None, weights_only=True)
    if data.has("test"):
        trainer.test(module, data, ckpt_path=run.best, weights_only=True, verbose=False)

    run.finish(config, trainer, data, callbacks)
    return run.objective


if __name__ == "__main__":
    cli.run(main, TEXT_KEYS, replay)
