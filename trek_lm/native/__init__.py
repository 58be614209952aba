"""Sampling on a CPU by steps.c and draw.c.

Without a C compiler, or with TREK_LM_NATIVE=0 in the environment, there is only what PyTorch has:
slower, and in float32, so that some draws fall on the other side of a rounding.
"""
