"""Where a deployed model answers, as the outputs of its stack say."""

import re

from lambda_serving.errors import NotFound
from lambda_serving.project.deployed.stack import Stack

__all__ = ["server_of"]

_URL = re.compile(r"(?P<server>https://[^\s?#]+)/v1/models/(?P<model>[^\s/:?#]+):predict")


def server_of(model: str, stack: Stack) -> str:
    """The part of the model's URL before `/v1/models`.

    Outputs of the stack itself come before those of stacks in it. Raises NotFound if none of them
    is the predict URL of the model.
    """
    values = [value for each in stack.walk() for value in each.outputs.values()]
    servers = dict[str, str]()
    for url in filter(None, map(_URL.fullmatch, values)):
        servers.setdefault(url["model"], url["server"])
    if model in servers:
        return servers[model]
    listed = ", ".join(sorted(servers)) or "none"
    raise NotFound(
        f"The outputs of stack {stack.name} have no predict URL of model {model}. Models with one:"
        f" {listed}. Correct the name, or deploy the model"
    )
