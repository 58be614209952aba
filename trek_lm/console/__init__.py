"""The options of `sample.py` in, text on a terminal or in a file out.

Read `sample` first: it prints lines or scores, or starts a session. `render` formats them,
`session` is the dialogue of `interactive=true`.
"""
