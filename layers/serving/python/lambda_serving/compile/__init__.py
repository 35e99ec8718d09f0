"""Makes a SavedModel quick to start: freezes it, optimises it ahead, maps its weights.

`compiler.compile_saved_model` does this and checks the result. `freezer_process` is a program that
runs in its own process; it and its `tables` are the only modules here that import Python
TensorFlow. The functions that change graphs accept TensorFlow's protobuf classes and ours.
"""
