"""The engine in C for a CPU: training (forward.c, backward.c) and sampling (steps.c, draw.c).

`interface.h` has what Python and C hand to each other; `build` compiles the C when it is first
needed. `sequences` has the layers to train with, `weights` packs a model to sample from, which
`trek_lm.generation.steppers` does. Without a C compiler, or with TREK_LM_NATIVE=0 in the
environment, there is only what PyTorch has: slower, and some draws fall on the other side of a
rounding.
"""
