"""A model one character at a time, many lines side by side: in PyTorch, and in C on a CPU."""
