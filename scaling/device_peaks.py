"""How many floating-point operations a device can do per second at most, and which share of them a training used.

That share is the model FLOPs utilisation, MFU (Chowdhery et al., PaLM, arXiv 2204.02311, section 4.1). It is derived from
what a record holds, so that a corrected peak corrects the MFU of old runs, too.
"""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["mfu", "mfu_of_run", "published_peak"]


# Dense products in 10^12 FLOP per second at the boost clock, as NVIDIA's data sheets give them: float32 outside the tensor
# cores, then TF32 and bfloat16 on them, half of what the sheets give with sparsity. "Tesla V100" (2018), "V100S" (2019),
# "T4" (2019), "A100" (2021), "A10" (2021), "L4" (2023), "L40S" (2023), "H100" (2022 and 2024), "H200" (2024), "HGX B200" (2025,
# an eighth of eight GPUs). V100 and T4 have no TF32, so that its products are float32's, and no bfloat16.
# The names are those that CUDA gives.
_PEAKS: tuple[tuple[str, float, float, float | None], ...] = (
    (r"V100S", 16.4, 16.4, None),
    (r"V100-SXM[23]", 15.7, 15.7, None),
    (r"V100-PCIE", 14.0, 14.0, None),
    (r"T4\b", 8.1, 8.1, None),
    (r"A100\b", 19.5, 156.0, 312.0),
    (r"A10\b", 31.2, 62.5, 125.0),
    (r"L4\b", 30.3, 60.0, 121.0),
    (r"L40S\b", 91.6, 183.0, 362.0),
    (r"H100 PCIe\b", 51.0, 378.0, 756.0),
    (r"H100 (80GB HBM3|SXM)", 67.0, 494.5, 989.5),
    (r"H200$", 67.0, 494.5, 989.5),
    (r"B200$", 75.0, 1100.0, 2250.0),
)
_PRECISIONS = ("float32", "tf32", "bf16")


def published_peak(device: str, precision: str) -> float | None:
    """Return the peak of a whole GPU in FLOP per second; None for a CPU, a share of a GPU, and where it is not known.

    Args:
        device: name of the device, as CUDA gives it.
        precision: of products: float32, tf32 or bf16.
    """
    if "MIG" in device:
        return None
    for pattern, *peaks in _PEAKS:
        if re.search(rf"\b{pattern}", device):
            peak = dict(zip(_PRECISIONS, peaks, strict=True)).get(precision)
            return None if peak is None else peak * 1e12
    return None


def mfu(flops: float, device_seconds: float, peak: float | None) -> float | None:
    """Return the model's FLOPs as a share of what the devices could do in this time; None without a peak.

    Args:
        flops: of the model in training, as records count them: with full histories, and one pass for each impression, so
            that packed passes can exceed 1.
        device_seconds: time of the training loop, summed over the devices.
        peak: of one device, FLOP per second.
    """
    if not peak or device_seconds <= 0:
        return None
    return flops / device_seconds / peak


def mfu_of_run(
    flops: float, train_seconds: float, precision: str, provenance: Mapping[str, Any]
) -> float | None:
    """Return the MFU of a run from the fields of its record; None unless the peak of its device is published.

    A run that shares its GPU with others has only its own part.
    """
    peak = published_peak(str(provenance.get("device")), precision)
    attempts = provenance.get("attempts") or [{}]
    return mfu(flops, train_seconds * int(attempts[-1].get("ranks") or 1), peak)
