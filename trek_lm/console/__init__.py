"""What `sample.py` was asked for in, text on a terminal or in a file out.

Read `sample` first: it chooses between lines, scores and a session. `render` says how they look,
`session` is the dialogue of `interactive=true`.
"""
