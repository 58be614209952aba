"""From transcripts to batches of characters."""
