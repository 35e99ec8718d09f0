"""Which deployed stack a command means: that of an environment of the project, or any by name."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.errors import InvalidArgument

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.deployed.stack import Stack
    from lambda_serving.project.environments import Environment
    from lambda_serving.release.aws.clients import Account

__all__ = ["Deployment", "environments", "named", "of_stack", "stack_options", "the_project"]


def environments(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The environments of the project whose names begin so, for a shell that completes them."""
    from lambda_serving.project.environments import environments_of, find_project

    project = find_project(Path.cwd())
    found = environments_of(project) if project else []
    return [each for each in found if each.startswith(begun)]


_NAMING = (
    click.option(
        "--env",
        shell_complete=environments,
        help="Environment of the project in samconfig.toml  [default: dev]",
    ),
    click.option("--stack", help="Name of the deployed stack, where there is no project"),
    click.option("--region", help="Region of AWS (default: the environment's, or AWS's settings)"),
    click.option("--profile", help="Profile of AWS (default: likewise)"),
)


@dataclass(frozen=True)
class Deployment:
    """A deployed stack and its account; `environment` is empty if the stack was named.

    Its methods raise what `translate_errors` raises, and Unimplemented without boto3.
    """

    stack: str
    region: str
    profile: str
    environment: str = ""

    @classmethod
    def of(
        cls, environment: "Environment", region: str | None, profile: str | None
    ) -> "Deployment":
        """The deployment of an environment; region and profile may be others."""
        return cls(
            environment.stack,
            region or environment.region,
            profile or environment.profile,
            environment.name,
        )

    @property
    def options(self) -> str:
        """The options that name this deployment, for a command to run next."""
        if self.environment:
            return f"--env {shlex.quote(self.environment)}"
        given = {"stack": self.stack, "region": self.region, "profile": self.profile}
        return " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items() if value)

    @cached_property
    def account(self) -> "Account":
        from lambda_serving.release.aws.clients import Account

        return Account.of_profile(self.profile or None, self.region or None)

    def connect(self, *services: str) -> list[Any]:
        """A client for each service; raises InvalidArgument if nothing names a region."""
        if not self.account.region:
            raise InvalidArgument(
                "No region of AWS is named. Use --region, set region in samconfig.toml, or set"
                " AWS_DEFAULT_REGION"
            )
        return self.account.connect(*services)

    def look(self) -> "Stack":
        """The stack as it is now; raises NotFound if there is none."""
        from lambda_serving.project.deployed.stack import look

        [cloudformation] = self.connect("cloudformation")
        return look(self.stack, cloudformation)


def of_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name a stack, and passes it as `deployment`."""

    @stack_options
    @wraps(command)
    def with_deployment(
        env: str | None, stack: str | None, region: str | None, profile: str | None, **others: Any
    ) -> None:
        command(**others, deployment=named(env, stack, region, profile))

    return with_deployment


def stack_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name a stack, whose values are what `named` takes."""
    for option in reversed(_NAMING):
        command = option(command)
    return command


def the_project() -> Path:
    """The project that the current folder lies in; raises UsageError if there is none."""
    from lambda_serving.project.environments import find_project

    if found := find_project(Path.cwd()):
        return found
    raise click.UsageError(
        "There is no project here: no folder from here upwards has infra/version beside"
        " template.yaml. Change into one, or make one: lambda-serving init DIR"
    )


def named(
    env: str | None, stack: str | None, region: str | None, profile: str | None
) -> Deployment:
    """The deployment that these options mean.

    Raises UsageError if they contradict each other, or name no stack where there is no project,
    and what `environment` raises.
    """
    from lambda_serving.project.environments import DEFAULT, environment, find_project

    if stack is not None and env is not None:
        raise click.UsageError("Use either --env or --stack, not both.")
    if stack is not None:
        if not stack:
            raise click.UsageError("--stack is empty. Name a stack.")
        return Deployment(stack, region or "", profile or "")
    if not (project := find_project(Path.cwd())):
        raise click.UsageError(
            "There is no project here. Change into one, or name a stack: --stack NAME"
        )
    return Deployment.of(environment(project, env or DEFAULT), region, profile)
