"""Character ids in, logits of the next character out; a state in and out.

Read `char_lm` first: settings, embedding, recurrent layers, head. `cells` lists the recurrent
layers by cell and engine; add a new cell there. `reference` has the equations of the LSTM and the
GRU, `native/` the engine in C, `weight_drop` the dropout on recurrent weights. `ngrams` and
`matches` add logits from tables, which they index by the hashes of `contexts`. `state` is carried
from one call to the next, `load_checkpoint` reads a model from a file.
"""
