"""Batches in; losses, optimizer steps and checkpoints out.

Read `module` first, Lightning's view of a model: loss, metrics, optimizer. Then `optim` and
`schedules` (the learning rate), `trainer` (Lightning's Trainer from `conf/trainer`), `hardware`
(precision and engine for this machine), and the callbacks: `progress`, `gradient_guard`,
`checkpointing`, `budget`. `distributed` runs several processes.
"""
