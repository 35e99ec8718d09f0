"""A process up to its first prediction, with our runtime alone: `python first_ours.py MODEL`."""

import json
import resource
import sys

import numpy as np

from lambda_serving.servables.saved_model import load

pixels = np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 28, 28, 1)
outputs = load(sys.argv[1]).run("serving_default", {"keras_tensor": pixels})
predictions = outputs["output_0"].tolist()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.stdout.write(json.dumps({"predictions": predictions, "peak_kib": peak}) + "\n")
