"""A SavedModel made quick to start: frozen, optimised ahead, its weights mapped.

`compiler.compile_saved_model` does it and checks what it did. The modules `freeze` and
`reexport` are programs: they, and `tables` for `freeze`, import Python TensorFlow, in processes of
their own. What they do to graphs is written for the messages of either, TensorFlow's classes or
ours.
"""
