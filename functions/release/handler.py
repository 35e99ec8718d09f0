"""Changes of models, from a queue, as what is served."""

import os

from lambda_serving.release import handler as release_handler

handler = release_handler.start(os.environ)
