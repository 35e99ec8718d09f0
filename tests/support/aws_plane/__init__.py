"""A stand-in for Lambda's control plane and CodeDeploy, to which boto3 speaks over HTTP.

It keeps what moto does not: a published version keeps its image, code and versions take a while,
an alias moves only for who has its revision, what an alias points to cannot be deleted, and a
deployment of CodeDeploy moves an alias bit by bit. Tests switch on what goes wrong on AWS: images
that Lambda takes and then refuses, versions that fail or fall asleep, conflicts, limits. What is
asked and what is answered is checked against botocore's models of the services.
"""

from support.aws_plane.function import Alias, Failure, Function, Version
from support.aws_plane.plane import UNFINISHED, Deployment, Plane
from support.aws_plane.refused import BUSY, Refused
from support.aws_plane.server import listening, serving

__all__ = [
    "BUSY",
    "UNFINISHED",
    "Alias",
    "Deployment",
    "Failure",
    "Function",
    "Plane",
    "Refused",
    "Version",
    "listening",
    "serving",
]
