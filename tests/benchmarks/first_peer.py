"""A process up to its first prediction, with TensorFlow alone: `python first_peer.py MODEL`."""

import json
import resource
import sys

import numpy as np
import tensorflow as tf

pixels = np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 28, 28, 1)
infer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
predictions = infer(keras_tensor=tf.constant(pixels))["output_0"].numpy().tolist()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.stdout.write(json.dumps({"predictions": predictions, "peak_kib": peak}) + "\n")
