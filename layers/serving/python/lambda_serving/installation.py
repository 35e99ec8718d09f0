"""How lambda-serving is installed: which package is missing, and the command that mends it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lambda_serving.errors import FailedPrecondition

__all__ = ["broken", "mending", "translate_import_errors"]

_OURS = "lambda-serving"
_MOST_CHARACTERS = 300  # of a reason: some packages explain themselves at length
_PACKAGES = {
    "botocore": "boto3",
    "flatbuffers": "ai-edge-litert",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "s3transfer": "boto3",
    "simdjson": "pysimdjson",
    "starlette": "fastapi",
    "yaml": "pyyaml",
}
"""What provides a module whose name is not that of its package."""


@contextmanager
def translate_import_errors() -> Iterator[None]:
    """Turns an ImportError into what `broken` returns."""
    try:
        yield
    except ImportError as error:
        raise broken(error) from error


def broken(error: ImportError) -> FailedPrecondition:
    """The error for a module that is missing or does not load; its message says what mends it."""
    error = _told(error)
    module = (error.name or "").partition(".")[0]
    reason = " ".join(str(error).split())[:_MOST_CHARACTERS]
    if module in sys.stdlib_module_names:
        return FailedPrecondition(
            f"Python has no module {module} here ({reason}). Use lambda-serving on Linux or macOS,"
            " with a Python that was built with its whole standard library"
        )
    return FailedPrecondition(
        f"The package {_package(module)} is missing or damaged ({reason}). Install it again:"
        f" {mending(module)}"
    )


def _told(error: ImportError) -> ImportError:
    """The error that names a module: packages that explain one raise another, without a name."""
    cause = error.__cause__ or error.__context__
    return _told(cause) if not error.name and isinstance(cause, ImportError) else error


def _package(module: str) -> str:
    if module == "tensorflow":
        from platform import machine  # only failures need it

        return "tensorflow-cpu" if (sys.platform, machine()) == ("linux", "x86_64") else module
    return _PACKAGES.get(module, module).replace("_", "-") or _OURS


def mending(module: str) -> str:
    """The command that installs a module's package again, within the bounds that ours gives it.

    If ours gives none, because only another package needs it, the command installs ours again.
    """
    from importlib.util import find_spec  # only failures need these
    from pathlib import Path
    from shlex import quote

    if Path(sys.prefix, "uv-receipt.toml").exists():
        return f"uv tool install --reinstall {_OURS}"
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return f"pipx reinstall {_OURS}"
    python, wanted = quote(sys.executable), quote(_requirement(_package(module)))
    if find_spec("pip"):
        return f"{python} -m pip install --force-reinstall {wanted}"
    return f"uv pip install --python {python} --reinstall {wanted}"


def _requirement(package: str) -> str:
    """The package with its bounds, as our own metadata has them; see `mending`."""
    import re
    from importlib import metadata

    try:
        ours = metadata.requires(_OURS) or []
    except metadata.PackageNotFoundError:  # images hold no more than our modules
        return package
    for line in ours:
        requirement, _, marker = line.partition(";")
        if re.split(r"[^\w.-]", requirement, maxsplit=1)[0] == package:
            extra = marker.partition("extra == ")[2].strip(" \"'")
            return f"{_OURS}[{extra}]" if extra else requirement.strip()
    return _OURS
