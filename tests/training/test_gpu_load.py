"""The share of time in which a GPU computes, against a driver's library that this test plays."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from scaling.training.gpu_load import GpuLoad


class Driver:
    """NVML with samples in per cent; a sample None is refused."""

    def __init__(self, samples):
        self.samples, self.asked = iter(samples), None

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByUUID(self, name, handle):
        self.asked = name
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle, target):
        sample = next(self.samples)
        target._obj.gpu = sample or 0
        return 0 if sample is not None else 3


@pytest.fixture
def driver(monkeypatch):
    def play(*samples):
        library = Driver(samples)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        properties = SimpleNamespace(uuid="ab-12")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        return library

    return play


def test_it_is_the_mean_of_the_drivers_samples(driver):
    driver(90, 30)
    load = GpuLoad("cuda")
    load()
    assert load() == {"gpu_busy": 0.6}


def test_the_device_is_found_by_its_own_name_not_by_its_number(driver):
    library = driver(1)
    GpuLoad("cuda:1")
    assert library.asked == b"GPU-ab-12"


def test_a_refused_sample_does_not_count(driver):
    driver(None, 50, None)
    load = GpuLoad("cuda")
    assert [load(), load(), load()] == [{}, {"gpu_busy": 0.5}, {"gpu_busy": 0.5}]


def test_a_machine_without_the_drivers_library_has_no_share(monkeypatch):
    def refuse(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert GpuLoad("cuda")() == {}


def test_a_cpu_has_no_share():
    assert GpuLoad("cpu")() == {}
