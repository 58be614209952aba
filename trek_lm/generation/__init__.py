"""A checkpoint in, generated lines and scores of text out.

Read `api` first: `CharLM` loads a checkpoint, generates and scores. `request` has the options,
`sampling` draws a character, `steppers` run a model one character at a time, `decoding` generates
many lines at once, `scoring` computes how likely a model finds a given text.
"""
