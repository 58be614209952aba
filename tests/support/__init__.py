"""What several test files share: commands, corpora, training, run folders."""
