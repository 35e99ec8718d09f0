"""Decides as IAM does: an action on a resource, by the statements of policies and a context.

Source: IAM user guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators",
"IAM policy elements: Variables and tags".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["allows", "listed"]

Context = Mapping[str, str | list[str]]
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


def allows(
    statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context
) -> bool:
    """Whether a statement allows it and none denies it."""
    effects = {
        each["Effect"] for each in statements if _applies(each, action, resource, _lower(context))
    }
    return effects == {"Allow"}


def listed(value: Any) -> list[Any]:
    """The value as a list: a policy may write a single item without one."""
    return value if isinstance(value, list) else [value]


def _lower(context: Context) -> dict[str, list[str]]:
    """Keys of conditions are compared without case."""
    return {key.lower(): listed(value) for key, value in context.items()}


def _applies(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, list[str]]
) -> bool:
    """Whether a statement applies; raises for one with elements that are not known here."""
    assert not {"NotAction", "NotResource"} & statement.keys(), statement
    for operator in statement.get("Condition", {}):
        assert operator in _OPERATORS, f"support.iam does not know the operator {operator}"
    return (
        any(_like(each.lower(), action.lower(), {}) for each in listed(statement["Action"]))
        and any(_like(each, resource, context) for each in listed(statement.get("Resource", "*")))
        and all(
            _holds(operator, key, listed(wanted), context)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _like(pattern: str, value: str, context: Mapping[str, list[str]]) -> bool:
    """With `*`, `?` and variables; wildcards in the value of a variable are none."""
    expression, end = "", 0
    for variable in _VARIABLE.finditer(pattern):
        values = context.get(variable[1].lower())
        if not values:
            return False
        expression += _expression(pattern[end : variable.start()]) + re.escape(values[0])
        end = variable.end()
    return bool(re.fullmatch(expression + _expression(pattern[end:]), value, re.DOTALL))


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _equal(pattern: str, value: str, context: Mapping[str, list[str]]) -> bool:
    del context
    return pattern == value


_OPERATORS: Mapping[str, Callable[[str, str, Mapping[str, list[str]]], bool]] = {
    "StringEquals": _equal,
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
}


def _holds(operator: str, key: str, wanted: list[Any], context: Mapping[str, list[str]]) -> bool:
    """Whether a condition holds; a key that the request lacks does not match."""
    matches = _OPERATORS[operator]
    return any(
        matches(str(each), value, context)
        for value in context.get(key.lower(), [])
        for each in wanted
    )
