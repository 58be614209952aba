"""Character ids in, logits of the next character out; a state in and out.

Read `char_lm` first: its settings, embedding, recurrent layers, head. `cells` lists the recurrent
layers by cell and engine: a new cell is entered there. `reference` has the equations of the LSTM
and the GRU, `native/` the engine in C, `weight_drop` the dropout on recurrent weights. `ngrams` and
`matches` add logits of their own, looked up by the hashes of `contexts`. `state` is what is carried
between calls, `load_checkpoint` reads a model from a file.
"""
