"""Likely problems for those who call a model, each a sentence with the fix."""

from collections.abc import Mapping

from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Signature

__all__ = ["signature_problems"]


def signature_problems(
    by_name: Mapping[str, Signature], uncallable: Mapping[str, str]
) -> list[str]:
    """Likely problems for callers of these signatures, each a sentence with the fix."""
    found = [
        f"input {name!r} of signature {signature.name!r} takes only {spec.shape[0]} rows at"
        " once, often the batch size of its training. model.export(path) keeps it free"
        for signature in by_name.values()
        for name, spec in signature.inputs.items()
        if spec.shape and spec.shape[0] is not None
    ]
    found += uncallable.values()
    if DEFAULT_SIGNATURE not in {**by_name, **uncallable}:
        found.append(
            f"there is no signature {DEFAULT_SIGNATURE!r}: every request must name its signature"
            f" ({', '.join(map(repr, sorted(by_name)))})"
            if by_name
            else "it has no signature to call. Export it with model.export(path), or name"
            " signatures in tf.saved_model.save"
        )
    return found
