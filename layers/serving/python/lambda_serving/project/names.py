"""Names in a project: of models, of their blocks in the template, and of stacks."""

import re
from collections.abc import Collection

from lambda_serving.errors import InvalidArgument

__all__ = [
    "MAX_STACK",
    "MODEL_NAME",
    "check_model",
    "free_id",
    "is_plain",
    "model_id",
    "model_like",
    "stack_like",
]

MODEL_NAME = r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*"
"""A name of a model that routes, functions and images can have, as infra/model.yaml checks it."""
_MAX_MODEL = 40
MAX_STACK = 23
_LONGEST_SUFFIX = "-prod"
_PLAIN = re.compile(r"[A-Za-z][\w./-]*", re.ASCII)
_NO_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_OTHERS = re.compile(r"[^A-Za-z0-9]+")


def check_model(name: str) -> None:
    """Raises InvalidArgument, which proposes another name, unless AWS allows this one."""
    if re.fullmatch(MODEL_NAME, name, re.ASCII) and len(name) <= _MAX_MODEL:
        return
    raise InvalidArgument(
        f"{name!r} cannot be the name of a model on AWS: letters and digits of ASCII, with single"
        f" '-' and '_' between them, {_MAX_MODEL} at most. Use a name such as {model_like(name)}"
    )


def model_like(text: str) -> str:
    """A name that a model may have, from any text: `my_model_v2` from `my model (v2)`."""
    parts = (each for each in re.split(r"[^A-Za-z0-9-]+", text) if each)
    name = re.sub(r"-+", "-", "_".join(part.strip("-") for part in parts).strip("_"))
    name = re.sub(r"_+", "_", name)[:_MAX_MODEL].strip("_-")
    return name or "model"


def model_id(name: str, taken: Collection[str]) -> str:
    """The logical id of a model's block: `HalfPlusTwo` for `half_plus_two`, none of `taken`."""
    made = "".join(part[:1].upper() + part[1:] for part in re.split("[_-]", name))
    usual = is_plain(made)
    return free_id(made if usual else f"Model{made}", taken)


def is_plain(text: str) -> bool:
    """Whether YAML reads a word, or a path, as text without quotes: not `no`, `1e3` or `3d`."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _NO_TEXT


def free_id(id_: str, taken: Collection[str]) -> str:
    """The id, or the first of `id2`, `id3` and so on that is not taken."""
    found, number = id_, 1
    while found in taken:
        number += 1
        found = f"{id_}{number}"
    return found


def stack_like(text: str) -> str:
    """A name for the stacks of a project, from any text; short enough for `-prod` after it.

    Stacks start with a letter and hold letters, digits and '-'.
    """
    name = _OTHERS.sub("-", text).strip("-").lower()
    name = name if name[:1].isalpha() else f"models-{name}"
    return name[: MAX_STACK - len(_LONGEST_SUFFIX)].strip("-")
