"""Reads and writes config files in protobuf text."""

from pathlib import Path
from typing import Any

from lambda_serving.errors import InvalidArgument, NotFound

__all__ = ["parse", "read", "written"]


def read(path: Path, message: Any) -> Any:
    """The file as a message of class `message`.

    Raises NotFound when it cannot be read, and what `parse` raises.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFound(f"Could not read the config file {path}: {error.strerror}") from error
    return parse(content, message, path)


def parse(text: str | bytes, message: Any, origin: object) -> Any:
    """The text, or its UTF-8 bytes, as a message of class `message`.

    Raises InvalidArgument, with `origin`, line and column, when it is not such a message. The error
    begins like the log line of tensorflow_model_server, so that a search finds both.
    """
    from google.protobuf import text_format  # only a config file pays for the import

    invalid = (
        f"Error parsing text-format {message.DESCRIPTOR.full_name}: The config file {origin} is not"
        " valid: "
    )
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{invalid}invalid UTF-8 at byte {error.start}") from error
    try:
        return text_format.Parse(decoded, message())
    except text_format.ParseError as error:
        raise InvalidArgument(f"{invalid}{error}") from error


def written(message: Any) -> str:
    """The message as text that `parse` takes."""
    from google.protobuf import text_format

    return text_format.MessageToString(message, as_utf8=True)
