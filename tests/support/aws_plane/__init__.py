"""A stand-in for Lambda's control plane and CodeDeploy, which boto3 reaches over HTTP.

Unlike moto, it behaves as Lambda does: a published version keeps its image, updates and versions
take a while, an alias moves only for a caller that knows its revision, a version cannot be deleted
while an alias points to it, and CodeDeploy moves an alias bit by bit. Tests switch on AWS's
failures: images that Lambda accepts and then refuses, versions that fail or become inactive,
conflicts, limits. Requests and answers are checked against botocore's models of the services.
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
