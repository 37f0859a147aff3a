"""Which precision the hardware runs fastest without harm."""

from __future__ import annotations

import torch


def cpu_has_bf16() -> bool:
    """Tell whether the processor multiplies bfloat16 in hardware; elsewhere it is emulated, many times slower."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: str) -> str:
    """Return the Lightning precision that ``auto`` stands for: bf16 where there is hardware for it.

    On a GPU without bfloat16 it is 16-bit floating point with loss scaling; on a CPU without it, float32.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype that inference computes in under a Lightning precision; None = float32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolve(precision))
