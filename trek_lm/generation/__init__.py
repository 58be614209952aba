"""A checkpoint in, lines of text and scores of text out.

Read `api` first: `CharLM` loads a checkpoint, generates and scores. `request` says what can be
asked for, `sampling` how a character is drawn, `steppers` how a model goes one character at a time,
`decoding` how many lines are drawn at once, `scoring` how likely a model finds given text.
"""
