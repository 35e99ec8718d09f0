"""What loaders and callers name in a `MetaGraphDef`: assets, the init op, ends of signatures."""

from typing import Any

from lambda_serving.servables.graph_defs import node_name, tensor_names

__all__ = ["MAIN_OPS", "ends_of", "init_op", "kept", "name_assets", "start_with", "started_nodes"]

MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
"""Collections with the init op, as TensorFlow 1 writes it."""
_INIT_OP = "__saved_model_init_op"
_ASSETS = "saved_model_assets"


def name_assets(meta_graph: Any) -> None:
    """Lists assets where TensorFlow 2 does; TensorFlow 1 keeps them in a collection."""
    if not meta_graph.asset_file_def and _ASSETS in meta_graph.collection_def:
        for each in meta_graph.collection_def[_ASSETS].any_list.value:
            each.Unpack(meta_graph.asset_file_def.add())


def ends_of(meta_graph: Any, *sides: str) -> set[str]:
    """The nodes of the `inputs` and `outputs` of all signatures, or of one of these sides."""
    return {
        node_name(tensor)
        for name, signature in meta_graph.signature_def.items()
        if name != _INIT_OP
        for side in sides or ("inputs", "outputs")
        for info in getattr(signature, side).values()
        for tensor in tensor_names(info)
    }


def started_nodes(meta_graph: Any) -> set[str]:
    """Nodes that a loader runs or feeds first, to fill tables and to name assets."""
    found = {node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def}
    if _INIT_OP in meta_graph.signature_def:
        infos = meta_graph.signature_def[_INIT_OP].outputs.values()
        found.update(node_name(info.name) for info in infos)
    for key in MAIN_OPS:
        if key in meta_graph.collection_def:
            found.update(map(node_name, meta_graph.collection_def[key].node_list.value))
    return found


def init_op(meta_graph: Any) -> set[str]:
    """Nodes that a loader runs first."""
    return started_nodes(meta_graph) - {
        node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def
    }


def start_with(meta_graph: Any, name: str) -> None:
    """Makes a node the init op in TensorFlow 2's way, which takes precedence over the older one."""
    meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name = name
    for key in MAIN_OPS:
        meta_graph.collection_def.pop(key, None)


def kept(meta_graph: Any) -> list[str]:
    """Nodes that must keep their names."""
    return sorted(ends_of(meta_graph) | started_nodes(meta_graph))
