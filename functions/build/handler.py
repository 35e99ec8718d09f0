"""The image of a model version: fetched, compiled, put on the base image."""

import os

from lambda_serving import building

handler = building.start(os.environ)
