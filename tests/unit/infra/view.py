"""Templates as AWS SAM reads them, printed as JSON: `python view.py TEMPLATE...`.

Run by the Python that has aws-sam-cli, which is not that of the tests. A template becomes

    {"stacks": {path: {logical id: resource}}, "routes": ["GET /x -> path/function", ...],
     "built": ["path/function", ...]}

where nested stacks have the parameters that their parents give, resources are transformed and
intrinsic functions are resolved as `sam build` and `sam local` do it. Resources whose condition
does not hold are left out of `stacks`, as by CloudFormation; `routes` and `built` are all that
AWS SAM sees and builds, and it reads no conditions of resources.
"""

import json
import sys
from copy import deepcopy
from importlib import import_module
from typing import Any

_providers = "samcli.lib.providers"
_stacks = import_module(f"{_providers}.sam_stack_provider").SamLocalStackProvider
_templates = import_module(f"{_providers}.sam_base_provider").SamBaseProvider
_functions = import_module(f"{_providers}.sam_function_provider").SamFunctionProvider
_api_provider = import_module(f"{_providers}.api_provider").ApiProvider
_validator = import_module("samcli.lib.translate.sam_template_validator").SamTemplateValidator
_parse_yaml = import_module("samcli.yamlhelper").yaml_parse

_CONDITIONS = "Conditions"  # a made-up resource, whose properties tell which ones hold


class _ManagedPolicies:
    """Stands in for a call to AWS: names of managed policies are not looked up."""

    def load(self) -> dict[str, str]:
        return {}


def _resources(stack: Any) -> dict[str, Any]:
    """A stack's resources, transformed and then resolved, without those that conditions exclude."""
    transformed = _validator(
        deepcopy(stack.template_dict), _ManagedPolicies(), region="eu-central-1"
    ).get_translated_template_if_valid()
    template = _parse_yaml(transformed)
    holds = {name: {"Fn::If": [name, True, False]} for name in template.get("Conditions", ())}
    template["Resources"][_CONDITIONS] = {"Type": "None", "Properties": holds}
    resources = _templates.get_template(template, stack.parameters, use_sam_transform=False)[
        "Resources"
    ]
    holds = resources.pop(_CONDITIONS)["Properties"]
    return {
        name: resource
        for name, resource in resources.items()
        if holds.get(resource.get("Condition"), True)
    }


def _made(stacks: list[Any]) -> dict[str, dict[str, Any]]:
    """The resources of each stack whose parents make it; parents come first."""
    made: dict[str, dict[str, Any]] = {}
    for stack in stacks:
        parent, _, name = stack.stack_path.rpartition("/")
        if not name or name in made.get(parent, {}):
            made[stack.stack_path] = _resources(stack)
    return made


def _view(path: str) -> dict[str, Any]:
    stacks, _ = _stacks.get_stacks(path)
    routes = _api_provider(stacks, disable_authorizer=True).api.routes
    return {
        "stacks": _made(stacks),
        "built": [
            function.full_path
            for function in _functions(stacks).get_all()
            if function.function_build_info.is_buildable()
        ],
        "routes": [
            f"{method} {route.path} -> {route.stack_path}/{route.function_name}"
            for route in routes
            for method in route.methods
        ],
    }


if __name__ == "__main__":
    json.dump([_view(path) for path in sys.argv[1:]], sys.stdout)
