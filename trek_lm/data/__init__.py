"""Transcript files in, batches of character ids out.

Read in the order of the data: `lines` (a speech, an episode, the report), `formats/` (text of a
file to lines), `transcripts` (files to episodes), `corpora` (where the files come from), `splits`,
`charset`, `encoded` (text to ids), `batching`, and `datamodule`, which combines them for Lightning
and is configured by `settings`. `cache` stores large corpora after they were read.
"""
