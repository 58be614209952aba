"""Transcript files in, batches of character ids out.

Read in the order of the data: `lines` (what a spoken line and an episode are), `formats/` (a
file's text to lines), `transcripts` (a folder of files to episodes), `corpora` (where the files
come from), `splits`, `charset`, `encoded` (text to ids), `batching`, and `datamodule`, which puts
them together for Lightning, as `settings` asks for. `cache` keeps large corpora as they were read.
"""
