"""Model FLOPs utilisation: peaks by the names that CUDA gives, and the MFU of a record."""

import pytest

from scaling.device_peaks import mfu, mfu_of_run, published_peak


@pytest.mark.parametrize(
    ("device", "peaks"),
    [
        ("Tesla V100-SXM2-32GB", (15.7, 15.7, None)),
        ("Tesla V100-PCIE-16GB", (14.0, 14.0, None)),
        ("Tesla V100S-PCIE-32GB", (16.4, 16.4, None)),
        ("Tesla T4", (8.1, 8.1, None)),
        ("NVIDIA A100-SXM4-40GB", (19.5, 156.0, 312.0)),
        ("NVIDIA A100 80GB PCIe", (19.5, 156.0, 312.0)),
        ("NVIDIA A10", (31.2, 62.5, 125.0)),
        ("NVIDIA L4", (30.3, 60.0, 121.0)),
        ("NVIDIA L40S", (91.6, 183.0, 362.0)),
        ("NVIDIA H100 80GB HBM3", (67.0, 494.5, 989.5)),
        ("NVIDIA H100 PCIe", (51.0, 378.0, 756.0)),
        ("NVIDIA H200", (67.0, 494.5, 989.5)),
        ("NVIDIA B200", (75.0, 1100.0, 2250.0)),
        # others, whose sheets give other numbers, or a share of a GPU
        *(
            (name, (None,) * 3)
            for name in (
                "cpu", "NVIDIA A10G", "NVIDIA L40", "NVIDIA H100 NVL", "NVIDIA H200 NVL", "NVIDIA GH200 480GB",
                "NVIDIA GB200", "NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A40",
            )
        ),
    ],
)  # fmt: skip
def test_a_gpu_has_the_peaks_of_its_data_sheet(device, peaks):
    found = [published_peak(device, precision) for precision in ("float32", "tf32", "bf16")]
    assert found == [peak and pytest.approx(peak * 1e12) for peak in peaks]


def test_half_of_the_peak_is_a_half():
    assert mfu(5e12, 10.0, 1e12) == 0.5
    assert mfu(5e12, 10.0, None) is None
    assert mfu(5e12, 0.0, 1e12) is None


def test_the_mfu_of_a_run_is_over_all_its_devices():
    provenance = {"device": "NVIDIA A100-SXM4-40GB", "attempts": [{"ranks": 1}, {"ranks": 4}]}
    assert mfu_of_run(312e12, 10.0, "bf16", provenance) == pytest.approx(1 / 40)
    assert mfu_of_run(312e12, 10.0, "float32", provenance) == pytest.approx(16 / 40)


def test_earlier_records_had_one_device():
    """And their attempts may be missing."""
    for more in ({}, {"attempts": []}, {"attempts": [{}]}):
        provenance = {"device": "Tesla T4", **more}
        assert mfu_of_run(8.1e12, 2.0, "float32", provenance) == pytest.approx(0.5)


def test_a_run_on_a_cpu_has_none():
    assert mfu_of_run(1e12, 1.0, "float32", {"device": "cpu", "attempts": [{}]}) is None
