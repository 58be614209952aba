"""Character language models of TV transcripts."""
