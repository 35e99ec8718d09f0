"""The image of a model version: fetched, compiled, put on the base image."""

import os

from lambda_serving.release.build import handler as build_handler

handler = build_handler.start(os.environ)
