"""TensorFlow Serving's REST API as an ASGI application."""

from lambda_serving.rest.app import Application, RestOptions, create_app

__all__ = ["Application", "RestOptions", "create_app"]
