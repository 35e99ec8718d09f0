"""TensorFlow's C API: sessions over SavedModels, without the `tensorflow` package.

Only this package uses `ctypes`. Statuses become our errors, with TensorFlow's message. This module
imports nothing, so that `library` can be opened before numpy is imported.
"""
