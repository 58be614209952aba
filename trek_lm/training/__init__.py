"""Batches in; losses, optimizer steps and checkpoints out.

Read `module` first: the LightningModule with loss, metrics and optimizer. Then `optim` and
`schedules` (the learning rate), `trainer` (Lightning's Trainer from `conf/trainer`), `hardware`
(precision and engine for this machine), and the callbacks: `progress`, `recorder`,
`gradient_guard`, `checkpointing`, `budget`. `distributed` starts a process for each device.
"""
