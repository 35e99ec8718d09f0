"""LiteRT, TensorFlow's light runtime: a `.tflite` file behind the interface of a SavedModel."""
