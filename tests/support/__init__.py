"""Shared by several test files: commands, corpora, training, run folders."""
