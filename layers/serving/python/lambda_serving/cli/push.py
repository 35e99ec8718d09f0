"""`lambda-serving push`: copies a SavedModel to a bucket or a folder, as a new version."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import printable, stages
from lambda_serving.cli.options import Loading, loading
from lambda_serving.errors import FailedPrecondition
from lambda_serving.store.address import Address

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.cli.served_now import ServedNow
    from lambda_serving.release.aws.served_model import ServedModel
    from lambda_serving.release.push import Pushed

__all__ = ["push"]

_ADVICE = "If callers are ready for that, push with --allow-signature-change"


@dataclass(frozen=True, slots=True)
class _Target:
    """The version that is pushed, and the model that a stack serves, if one is to serve it."""

    base_path: str
    version: int
    stack: str | None = None
    model: "ServedModel | None" = None

    def now(self, loading: Loading) -> "ServedNow | None":
        from lambda_serving.cli.served_now import in_stack, in_store

        if self.model:
            return in_stack(self.model, loading)
        return in_store(self.base_path, self.version, loading)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination")
@click.option("--stack", help="Name of the deployed stack (default: the one that has the bucket)")
@click.option("--wait", is_flag=True, help="Wait until the version is live")
@click.option(
    "--timeout",
    type=click.IntRange(0),
    default=900,
    show_default=True,
    help="With --wait: seconds until the command gives up",
)
@click.option("--no-check", is_flag=True, help="Push even if no stack would serve the version")
@click.option(
    "--allow-signature-change",
    is_flag=True,
    help="Push even if callers must send, or will get, something else than now",
)
@loading
def push(
    source: Path, destination: str, timeout: int, loading: Loading, *, wait: bool, **checks: Any
) -> None:
    """Check the SavedModel in SOURCE, and copy it to DESTINATION as a new version.

    DESTINATION is s3://BUCKET/PREFIX/NAME/VERSION or a folder on this machine. The model is first
    loaded like the server loads it, warm-up included; then it is copied, its manifest last. Run an
    interrupted push again and it continues. A version's files cannot change: pushing the same files
    again does nothing, and pushing others is refused.

    A SavedModel may hold requests with the answers it must give, in assets.extra/golden.jsonl: one
    {"request": {...}, "response": {...}} per line, as predict --golden prints it. A model that
    gives other answers is not pushed.

    A version in a bucket must be one that a deployed stack would make live. Its signatures are
    compared with those of the version that is live now; in a folder, or with --no-check, with those
    of the largest other version. If inputs or outputs differ, the command lists the differences and
    pushes nothing.

    The exit code is 0 if the version was pushed and, with --wait, is live; 1 if it was not pushed;
    3 if it is not live when the time is up; 4 if it failed, or something else keeps it from being
    live. The last line says why.
    """
    target = _push(source, destination, loading, wait=wait, **checks)
    if wait:
        _wait(target, timeout)


def _push(
    source: Path,
    destination: str,
    loading: Loading,
    *,
    wait: bool,
    stack: str | None,
    no_check: bool,
    allow_signature_change: bool,
) -> _Target:
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    from lambda_serving.release import push as pushing
    from lambda_serving.store.push_target import open_version

    _check_options(destination, stack, wait=wait, no_check=no_check)
    _check(source)
    version = open_version(destination)
    load = loading.loader()
    columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn()
    with stages(f"{source} -> {version}", *columns) as progress:
        progress("looking for its stack")
        target = _target(destination, stack, no_check=no_check)
        approve = _approving(target, loading, allowed=allow_signature_change)
        pushed = pushing.push(source, version, load, progress, approve)
    _show(str(version), pushed)
    return target


def _check_options(destination: str, stack: str | None, *, wait: bool, no_check: bool) -> None:
    if no_check and (stack or wait):
        raise click.UsageError("Use either --no-check, or --stack and --wait, which need a stack.")
    if (stack or wait) and not Address.parse(destination, "DESTINATION").is_bucket:
        raise click.UsageError("--stack and --wait need a DESTINATION in s3://, not a folder.")


def _check(source: Path) -> None:
    """Raises NotFound if there is no SavedModel, InvalidArgument for a base path."""
    from lambda_serving.cli.exports import exports
    from lambda_serving.errors import InvalidArgument

    if (found := exports(source)) != [source]:
        raise InvalidArgument(
            f"SOURCE {source} is a base path with versions {', '.join(p.name for p in found)}."
            f" Push one of them, such as {found[-1]}"
        )


def _target(destination: str, stack: str | None, *, no_check: bool) -> _Target:
    """Raises what `served_model` raises if no stack would make the version live."""
    base_path, _, number = destination.rstrip("/").rpartition("/")
    version = int(number)
    if no_check or not Address.parse(destination).is_bucket:
        return _Target(base_path or ".", version)
    from lambda_serving.release.aws.served_model import ServedModel, stack_of
    from lambda_serving.release.aws.stack import Clients, System

    stack = stack or stack_of(base_path)
    clients = Clients.connect()
    model = ServedModel.of(base_path, System.deployed(stack, clients.functions), clients)
    model.check_released(version, clients)
    return _Target(base_path, version, stack, model)


def _approving(
    target: _Target, loading: Loading, *, allowed: bool
) -> Callable[[Mapping[str, bytes]], None]:
    """A function that takes the `SignatureDef`s to be pushed.

    It raises FailedPrecondition unless they are those of the version that is served now, or a
    change is allowed, of which it tells then.
    """

    def approve(definitions: Mapping[str, bytes]) -> None:
        from lambda_serving.release.signatures import changes, of_definitions

        if (now := target.now(loading)) is None:
            return
        if now.trouble:
            told = f"The signatures of {now.version}, cannot be compared: {now.trouble}. "
        elif lines := [*changes(now.signatures, of_definitions(definitions))]:
            shown = "\n".join(map(printable, lines))
            told = f"The signatures are not those of {now.version}:\n{shown}\n"
        else:
            return
        if not allowed:
            raise FailedPrecondition(f"{told}{_ADVICE}")
        click.secho(told.rstrip(), err=True, fg="yellow")

    return approve


def _show(version: str, pushed: "Pushed") -> None:
    for problem in pushed.problems:
        click.secho(f"Warning: {problem}.", err=True, fg="yellow")
    count, size = len(pushed.manifest.files), pushed.manifest.size / 2**20
    if not pushed.new:
        click.echo(f"{version} already has these {count} files. Nothing to do")
        return
    before = count - len(pushed.copied)
    rest = f", of which {before} were already there" if before else ""
    pairs = f". Golden pairs checked: {pushed.golden_pairs}" if pushed.golden_pairs else ""
    click.echo(f"{version}: pushed {count} files, {size:.1f} MiB{rest}{pairs}")


def _wait(target: _Target, seconds: int) -> None:
    """Ends the command, unless the version gets live in so many seconds."""
    from lambda_serving.cli.deployed_stack import open_gateway
    from lambda_serving.cli.until_live import until_live

    assert target.stack is not None
    gateway = open_gateway(target.base_path, target.stack)
    if code := until_live(gateway.observe, target.base_path, target.version, seconds):
        sys.exit(code)
