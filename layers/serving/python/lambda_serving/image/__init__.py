"""Appends a folder to an image in a registry as one more layer, without Docker.

with open_client() as client:
    registry = Registry(client, {HOST: ("AWS", token)})
    append(registry, f"{HOST}/predict:base", compiled, "/models/MLP/3", f"{HOST}/predict:MLP-3")
"""

from lambda_serving.image.append import Appended, append
from lambda_serving.image.registry import Registry
from lambda_serving.image.transfer import open_client

__all__ = ["Appended", "Registry", "append", "open_client"]
