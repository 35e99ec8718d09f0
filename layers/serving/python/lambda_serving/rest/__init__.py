"""TensorFlow Serving's REST API as a FastAPI application."""

from lambda_serving.rest.app import RestOptions, create_app

__all__ = ["RestOptions", "create_app"]
