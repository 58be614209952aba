"""The engine in C for a CPU: training (forward.c, backward.c) and sampling (steps.c, draw.c).

`build` compiles them when they are first needed; `sequences` has the layers to train with,
`weights` what samples. Without a C compiler, or with TREK_LM_NATIVE=0 in the environment, there is
only what PyTorch has: slower, and some draws fall on the other side of a rounding.
"""
