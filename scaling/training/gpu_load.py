"""The share of time in which the GPU of this process computes, sampled with each heartbeat."""

import ctypes
import threading

import torch

__all__ = ["GpuLoad"]


class _Utilisation(ctypes.Structure):
    """`nvmlUtilization_t`: per cent of the driver's last sample period (up to a second) with a kernel running."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class GpuLoad:
    """A measurement for `Lease.watch`: the mean of the driver's samples so far as `gpu_busy`, from 0 to 1.

    It asks the driver's own library (NVML), which every machine with an NVIDIA GPU has; a sample takes some
    microseconds. Empty on a CPU, without that library, and where it does not measure (parts of a GPU).
    """

    def __init__(self, device: str) -> None:
        self._library, self._handle = _open(device)
        self._guard = threading.Lock()
        self._sum, self._count = 0.0, 0

    def __call__(self) -> dict[str, float]:
        """Take a sample and return the mean."""
        if self._library is None:
            return {}
        now = _Utilisation()
        failed = self._library.nvmlDeviceGetUtilizationRates(self._handle, ctypes.byref(now))
        with self._guard:
            if not failed:
                self._sum, self._count = self._sum + now.gpu / 100, self._count + 1
            return {"gpu_busy": round(self._sum / self._count, 4)} if self._count else {}


def _open(device: str) -> tuple[ctypes.CDLL | None, ctypes.c_void_p]:
    """Return NVML and its handle of the device; None if there is none."""
    handle = ctypes.c_void_p()
    if not device.startswith("cuda"):
        return None, handle
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        # the numbers of CUDA's devices are those of this process, NVML's are those of the machine
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
            return None, handle
    except (OSError, AttributeError):  # no driver, or an older torch or driver
        return None, handle
    return library, handle
