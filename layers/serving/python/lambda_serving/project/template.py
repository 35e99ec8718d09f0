"""A project's template: its models, and edits that leave the rest of the text as it is.

Edits insert and remove whole lines; `yaml_text` finds them. The result is parsed again and must be
what was there with one block more or fewer, or else the edit is refused.
"""

import re
from dataclasses import dataclass

import yaml

from lambda_serving.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from lambda_serving.project.names import check_model, free_id, is_plain, model_id
from lambda_serving.project.yaml_text import Entry, YamlText

__all__ = ["Block", "blocks", "with_block", "without_block"]

_PARAMETERS, _RESOURCES, _OUTPUTS = "Parameters", "Resources", "Outputs"
_MODEL = "infra/model.yaml"
_ANCHOR = re.compile(r"^ +Parameters: &(\w+)\s*$", re.MULTILINE)
_BLOCK = """
{id}:
  Type: AWS::CloudFormation::Stack
  Properties:
    TemplateURL: {template}
    Parameters:
      <<: *{settings}
      ModelName: {name}
      ModelFolder: {folder}
"""
_OUTPUT = """\
{id}:
  Value: !GetAtt {block}.Outputs.PredictUrl
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A model in the template: its logical id, its name, its folder, and its line, from 1 on.

    `target` is what answers, `function` or `gpu`. `folder` is relative to the project, and empty if
    the block names none, as for a server with a GPU, whose versions are in the bucket.
    """

    id: str
    name: str
    folder: str
    target: str
    line: int


def blocks(text: str) -> list[Block]:
    """The blocks of models, in the order of the file.

    Raises InvalidArgument if the text is no template, or a block hides its name from readers.
    """
    return [_block(entry) for entry in YamlText(text).entries(_RESOURCES) if _is_model(entry)]


def with_block(text: str, name: str, folder: str) -> str:
    """The template with a block and an output more, for a model whose versions are in `folder`.

    Raises InvalidArgument for a name that no model can have, AlreadyExists if a block has the name
    but for case, and FailedPrecondition if only a person can edit this template.
    """
    check_model(name)
    for each in blocks(text):
        if each.name.lower() == name.lower():
            raise AlreadyExists(
                f"template.yaml, line {each.line}, has the model {each.name}. Two names must differ"
                " by more than case, as names of images are in lower case"
            )
    document = YamlText(text)
    resources = document.entries(_RESOURCES)
    taken = {entry.key for entry in (*resources, *document.entries(_PARAMETERS))}
    made = model_id(name, taken)
    block = _BLOCK.format(
        id=made,
        template=_MODEL,
        settings=_settings(text),
        name=_scalar(name),
        folder=_scalar(folder),
    )
    last = ([each for each in resources if _is_model(each)] or resources)[-1:]
    edited = _with_output(document.with_text(_RESOURCES, last, block), made)
    _check_same_but(made, text, edited)
    return edited


def without_block(text: str, name: str) -> str:
    """The template without a model's block, its outputs, and comments directly above these.

    Raises NotFound if there is no such block, and FailedPrecondition if something else refers to it
    or if only a person can edit this template.
    """
    known = {each.name: each.id for each in blocks(text)}
    if name not in known:
        raise NotFound(
            f"template.yaml has no model {name}. Its models: {', '.join(known) or 'none'}"
        )
    gone, edited = known[name], text
    while outputs := [e for e in YamlText(edited).entries(_OUTPUTS) if _refers(e.value, gone)]:
        edited = YamlText(edited).without(_OUTPUTS, outputs[0])
    [block] = [e for e in YamlText(edited).entries(_RESOURCES) if e.key == gone]
    edited = YamlText(edited).without(_RESOURCES, block)
    if _refers(YamlText(edited).root, gone):
        raise FailedPrecondition(
            f"Something else in template.yaml refers to {gone}, the block of model {name}, besides"
            " its output. Remove that first"
        )
    _check_same_but(gone, edited, text)
    return edited


def _is_model(entry: Entry) -> bool:
    address = entry.scalar("Properties", "TemplateURL")
    return address is not None and f"/{address.value}".endswith(f"/{_MODEL}")


def _block(entry: Entry) -> Block:
    told = {"ModelName": "", "ModelFolder": "", "Target": "function"}
    for key in told:
        node = entry.scalar("Properties", "Parameters", key)
        if node is not None:
            if node.tag.startswith("!"):
                raise InvalidArgument(
                    f"template.yaml, line {node.start_mark.line + 1}: {key} must be plain text, not"
                    f" {node.tag}, as commands read it without deploying"
                )
            told[key] = node.value
    if not told["ModelName"]:
        raise InvalidArgument(f"template.yaml, line {entry.line}: {entry.key} has no ModelName")
    return Block(entry.key, told["ModelName"], told["ModelFolder"], told["Target"], entry.line)


def _settings(text: str) -> str:
    """The anchor of the parameters that all models have in common."""
    if (found := _ANCHOR.search(text)) is None:
        raise FailedPrecondition(
            "template.yaml lacks the anchor of what all models have in common: `Parameters:"
            " &settings` in the metadata of ModelSettings. Restore it, or write the block by hand"
        )
    return found[1]


def _with_output(text: str, block: str) -> str:
    document = YamlText(text)
    outputs = document.entries(_OUTPUTS)
    made = free_id(f"{block}PredictUrl", {entry.key for entry in outputs})
    urls = [each for each in outputs if _is_url(each)]
    return document.with_text(
        _OUTPUTS, (urls or outputs)[-1:], _OUTPUT.format(id=made, block=block)
    )


def _is_url(output: Entry) -> bool:
    value = output.scalar("Value")
    return value is not None and value.value.endswith(".Outputs.PredictUrl")


def _scalar(text: str) -> str:
    """The text as YAML reads it as text."""
    return text if is_plain(text) else f'"{text}"'


def _refers(node: yaml.Node, id_: str) -> bool:
    """Whether a resource is named by a function, or by `DependsOn`, anywhere in a node."""
    match node:
        case yaml.ScalarNode(value=value):
            return node.tag.startswith("!") and _names(value, id_)
        case yaml.SequenceNode(value=[yaml.ScalarNode(value=first), *_]) if node.tag.startswith(
            "!"
        ) and _names(first, id_):
            return True
        case yaml.SequenceNode(value=items):
            return any(_refers(each, id_) for each in items)
        case yaml.MappingNode(value=pairs):
            return any(
                _refers(value, id_)
                or (key.value in _FUNCTIONS and any(_names(each, id_) for each in _texts(value)))
                for key, value in pairs
            )
    return False


_FUNCTIONS = {"DependsOn", "Fn::GetAtt", "Fn::Sub", "Ref"}


def _texts(node: yaml.Node) -> list[str]:
    """The text of a scalar, or of those in a sequence."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [each.value for each in nodes if isinstance(each, yaml.ScalarNode)]


def _names(text: str, id_: str) -> bool:
    """Whether the text of a function is a resource, an attribute of it, or holds it as `${ID}`."""
    return text.partition(".")[0] == id_ or bool(re.search(rf"\$\{{{id_}[.}}]", text))


def _check_same_but(block: str, smaller: str, larger: str) -> None:
    """Raises FailedPrecondition if two templates differ in more than a block and its outputs."""
    fewer, more = YamlText(smaller), YamlText(larger)
    kept = [each.plain for each in more.entries(_RESOURCES) if each.key != block]
    same = kept == [each.plain for each in fewer.entries(_RESOURCES)]
    kept = [each.plain for each in more.entries(_OUTPUTS) if not _refers(each.value, block)]
    same = same and kept == [each.plain for each in fewer.entries(_OUTPUTS)]
    if not same or more.others(_RESOURCES, _OUTPUTS) != fewer.others(_RESOURCES, _OUTPUTS):
        raise FailedPrecondition(
            "template.yaml is written in a way that no command can edit safely. Write or remove the"
            f" block {block} and its output by hand"
        )
