"""A config in, a finished run folder out.

Read `train` first: one run from top to bottom. `folder` says what stands where in a run's folder,
`resume` makes ready to continue one, `metrics` and `provenance` are what is written when it ends,
`dashboard` and `writeup` what is shown meanwhile. `sweep` and `leaderboard` put many runs side by
side, `find_model` finds the checkpoint that a user names.
"""
