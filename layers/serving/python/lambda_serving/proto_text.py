"""Config files in protobuf text."""

from pathlib import Path
from typing import Any

from lambda_serving.errors import InvalidArgument, NotFound

__all__ = ["read"]


def read(path: Path, message: Any) -> Any:
    """The file as a message of class `message`.

    Raises NotFound when it cannot be read, InvalidArgument, with line and column, when it is not
    such a message.
    """
    from google.protobuf import text_format  # only a config file pays for the import

    try:
        return text_format.Parse(path.read_text(), message())
    except OSError as error:
        raise NotFound(f"Could not read the config file {path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"The config file {path} is not valid: {error}") from error
