"""TensorFlow Serving's REST API as an ASGI application."""

from lambda_serving.api.rest.app import Application, RestOptions, create_app

__all__ = ["Application", "RestOptions", "create_app"]
