"""Changes of models, from a queue, as what is served."""

import os

from lambda_serving.release import worker

handler = worker.start(os.environ)
