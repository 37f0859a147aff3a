"""Choice of the floating-point precision for the hardware."""

from __future__ import annotations

import torch


def cpu_has_bf16() -> bool:
    """Return whether the processor supports bfloat16 in hardware; emulation is many times slower."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: str) -> str:
    """Return the Lightning precision for ``auto``: bf16 if the hardware supports it.

    Without bfloat16 support, GPUs use 16-bit floating point with loss scaling and CPUs use float32.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the autocast dtype of inference for a Lightning precision; None = float32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolve(precision))
