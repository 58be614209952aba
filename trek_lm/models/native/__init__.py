"""The engine in C for a CPU: training (forward.c, backward.c) and sampling (steps.c, draw.c).

`interface.h` declares the data that Python and C exchange; `build` compiles the C when it is first
needed. `sequences` has the layers for training; `weights` packs a model for sampling, which
`trek_lm.generation.steppers` does. Without a C compiler, or with TREK_LM_NATIVE=0 in the
environment, PyTorch does it: slower, and rounding differences change some sampled characters.
"""
