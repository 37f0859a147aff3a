"""The published weights of HoVer-Net: the PyTorch conversions of the authors' TensorFlow checkpoints."""

from __future__ import annotations

from models.base.foreign import Foreign
from models.base.weights import State, rename
from models.networks.hovernet import FEATURES, OFFICIAL_DROP, OFFICIAL_RULES
from postproc.errors import DataError

MODES = {5: "original", 3: "fast"}
"""Side of the decoders' convolutions -> mode."""
BRANCH = "decoders.tp."


def read_published(state: State, prefix: str = "network.") -> Foreign | None:
    """Read a published checkpoint: names, mode, width and number of types.

    The files (``hovernet_fast_pannuke_type_tf2pytorch.tar``, ``hovernet_original_kumar_notype_tf2pytorch.tar`` and
    others of https://github.com/vqdang/hover_net) hold a state dictionary under ``desc``. Their network divides images
    by 255, as `Network.prepare` does.

    Args:
        state: Tensors under the names of the file.
        prefix: Prepended to the names of `HoVerNetwork`.

    Returns:
        The weights; None if the file has another layout.

    Raises:
        DataError: If the file has the names of the published layout but lacks parts of it.
    """
    if not any(name.startswith("conv0.") for name in state):
        return None
    kept = [name for name in state if not name.startswith(OFFICIAL_DROP)]
    named = rename(state, OFFICIAL_RULES, OFFICIAL_DROP)
    if len(named) != len(kept):
        raise DataError(f"HoVer-Net's file names a tensor twice: {len(kept)} tensors, {len(named)} places")
    first, deep = named.get("encoder.stem.conv.weight"), named.get("decoders.np.deep.reduce.weight")
    if first is None or deep is None:
        raise DataError(
            "HoVer-Net's file has no branch decoder.np: it holds the encoder only, with which a training can start "
            "(nucbench run hovernet DATASET --options.weights FILE)"
        )
    if deep.ndim != 4 or deep.shape[-1] not in MODES:
        raise DataError(f"HoVer-Net's file: decoder.np.u3.conva.weight is {tuple(deep.shape)}; expected 3 x 3 or 5 x 5")
    mode, features = MODES[deep.shape[-1]], first.shape[0]
    last = named.get(f"{BRANCH}out.weight")
    return Foreign(
        "vqdang/hover_net (PyTorch)",
        {prefix + name: value for name, value in named.items()},
        dict(zip((prefix + name for name in named), kept, strict=True)),
        {"mode": mode} | ({} if features == FEATURES else {"features": features}),
        tuple(name for name in state if name.startswith(OFFICIAL_DROP)),
        types=0 if last is None else last.shape[0] - 1,
        branch=prefix + BRANCH,
        outputs=(f"{prefix}{BRANCH}out.weight", f"{prefix}{BRANCH}out.bias"),
    )


__all__ = ["read_published"]
