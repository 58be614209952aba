"""A config in, a finished run folder out.

Read `train` first: one run from top to bottom. `folder` defines a run folder's files. `begin` and
`resume` check a folder before a run, `replay` restores a run's command line, `finish` and
`provenance` write the results, `dashboard` and `writeup` report during training. `sweep` and
`leaderboard` compare runs; `find_model` finds the checkpoint that a user names.
"""
