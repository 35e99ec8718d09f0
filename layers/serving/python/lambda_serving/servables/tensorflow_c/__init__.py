"""TensorFlow's C API: sessions over SavedModels, without the `tensorflow` package.

Only this package knows `ctypes`. Statuses become our errors, with TensorFlow's message. Nothing is
imported here, so that `library` can be opened before numpy is there.
"""
