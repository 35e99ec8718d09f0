"""TensorFlow Serving's REST API as an ASGI application."""

from lambda_serving.api.rest.app import Application, create_app

__all__ = ["Application", "create_app"]
