"""Images of model versions in ECR: its passwords, and deleting images."""

import base64
import re

from lambda_serving.release.aws.clients import Account, connect, translate_errors

__all__ = ["delete", "passwords"]

_ECR = re.compile(r"(?P<host>(?P<account>\d{12})\.dkr[.-]ecr[.-][^/]+)/(?P<name>[^@:]+)")


def passwords(*repositories: str, account: Account | None = None) -> dict[str, tuple[str, str]]:
    """User and password for the registries of repositories that are ECR; others are anonymous.

    `account` is who asks for them, by default this process. One answer is for all of ECR.

    Raises what `translate_errors` raises.
    """
    hosts = {match["host"] for match in map(_ECR.match, repositories) if match}
    if not hosts:
        return {}
    with translate_errors("ECR"):
        [ecr] = (account or Account()).connect("ecr")
        answer = ecr.get_authorization_token()
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    user, _, password = token.partition(":")
    return dict.fromkeys(hosts, (user, password))


def delete(repository: str, digest: str) -> None:
    """Deletes an image and its tags from ECR, if it is there; other registries keep it.

    Raises what `translate_errors` raises.
    """
    if match := _ECR.match(repository):
        with translate_errors(f"repository {repository}"):
            [ecr] = connect("ecr")
            ecr.batch_delete_image(
                registryId=match["account"],
                repositoryName=match["name"],
                imageIds=[{"imageDigest": digest}],
            )
