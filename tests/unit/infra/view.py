"""Templates as AWS SAM reads them, printed as JSON: `python view.py TEMPLATE...`.

Run by the Python that has aws-sam-cli, which is not that of the tests. A template becomes

    {"stacks": {path: {logical id: resource}}, "routes": ["GET /x -> path/function", ...]}

where nested stacks have the parameters that their parents give, resources are transformed and
intrinsic functions are resolved as `sam build` and `sam local` do it.
"""

import json
import sys
from copy import deepcopy
from importlib import import_module
from typing import Any

_providers = "samcli.lib.providers"
_stacks = import_module(f"{_providers}.sam_stack_provider").SamLocalStackProvider
_templates = import_module(f"{_providers}.sam_base_provider").SamBaseProvider
_api_provider = import_module(f"{_providers}.api_provider").ApiProvider
_validator = import_module("samcli.lib.translate.sam_template_validator").SamTemplateValidator
_parse_yaml = import_module("samcli.yamlhelper").yaml_parse


class _ManagedPolicies:
    """Stands in for a call to AWS: names of managed policies are not looked up."""

    def load(self) -> dict[str, str]:
        return {}


def _resources(stack: Any) -> Any:
    """A stack's resources, transformed and then resolved."""
    transformed = _validator(
        deepcopy(stack.template_dict), _ManagedPolicies(), region="eu-central-1"
    ).get_translated_template_if_valid()
    template = _templates.get_template(
        _parse_yaml(transformed), stack.parameters, use_sam_transform=False
    )
    return template["Resources"]


def _view(path: str) -> dict[str, Any]:
    stacks, _ = _stacks.get_stacks(path)
    routes = _api_provider(stacks, disable_authorizer=True).api.routes
    return {
        "stacks": {stack.stack_path: _resources(stack) for stack in stacks},
        "routes": [
            f"{method} {route.path} -> {route.stack_path}/{route.function_name}"
            for route in routes
            for method in route.methods
        ],
    }


if __name__ == "__main__":
    json.dump([_view(path) for path in sys.argv[1:]], sys.stdout)
