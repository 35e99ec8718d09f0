"""TensorFlow Serving's API on functions.

The library's front door is `lambda_serving.saved_model.load(path)`, which gives a `Servable`;
the command is `lambda-serving`.
"""

__version__ = "0.1.0"
