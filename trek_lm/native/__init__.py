"""What is faster in C on a CPU: sampling (steps.c, draw.c), training (forward.c, backward.c).

Without a C compiler, or with TREK_LM_NATIVE=0 in the environment, there is only what PyTorch has:
slower, and some draws fall on the other side of a rounding.
"""
