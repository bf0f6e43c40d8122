"""The benchmark's own parts: what it writes, confines and counts."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import report
from bench.__main__ import bytes_of
from bench.cgroup import Cgroup, CgroupError, disk_of
from bench.floor import ranges, sweep
from bench.measure import bytes_to_read
from bench.merge import merged
from bench.models import MOE, Model, fused_expert_tensors, per_expert_tensors
from bench.random_checkpoint import write_checkpoint

SMALL = {
    **MOE,
    "hidden_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}


def small_model() -> Model:
    return Model("small", "small", SMALL, "BF16", "model", 3, (0.25,), ("1 token",), per_expert_tensors)


def test_both_layouts_of_a_mixture_of_experts_load_as_the_same_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    logits = []
    for layout in (per_expert_tensors, fused_expert_tensors):
        folder = tmp_path / layout.__name__
        write_checkpoint(folder, "model", layout(SMALL), "BF16", 3)
        (folder / "config.json").write_text(json.dumps(SMALL))
        model, facts = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
        assert not facts["missing_keys"] and not facts["unexpected_keys"]
        with torch.no_grad():
            logits.append(model(torch.tensor([[1, 2, 3]])).logits)
    assert torch.isfinite(logits[0]).all()
    assert torch.equal(*logits)


def test_version_2_group_gets_its_limits(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory")
    group = Cgroup("one", 1000, 600, "8:0", tmp_path)
    group.__enter__()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+io"
    assert (tmp_path / "one/memory.max").read_text() == "1000"
    assert (tmp_path / "one/io.max").read_text() == "8:0 rbps=600"
    (tmp_path / "one/memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.killed()


def test_version_1_group_gets_its_limits(tmp_path: Path) -> None:
    for controller in ("memory", "blkio"):
        (tmp_path / controller).mkdir()
    group = Cgroup("one", 1000, 600, "8:0", tmp_path)
    group.__enter__()
    assert (tmp_path / "memory/one/memory.limit_in_bytes").read_text() == "1000"
    assert (tmp_path / "blkio/one/blkio.throttle.read_bps_device").read_text() == "8:0 600"
    (tmp_path / "memory/one/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not group.killed()


@pytest.fixture
def throttled(tmp_path: Path) -> Iterator[Cgroup]:
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    try:
        with Cgroup(f"weightstream-bench-{os.getpid()}", 64 << 20, 5 << 20, disk_of(tmp_path)) as group:
            yield group
    except CgroupError as error:
        pytest.skip(str(error))


def test_the_kernel_takes_both_limits(throttled: Cgroup) -> None:
    name = "io.max" if throttled.is_version_2 else "blkio.throttle.read_bps_device"
    assert str(5 << 20) in (throttled.io_folder / name).read_text()
    assert throttled.start(["true"]).wait() == 0
    assert not throttled.killed()
    assert throttled.start([sys.executable, "-c", "bytes(range(256)) * 2**20"]).wait() == -signal.SIGKILL
    assert throttled.killed()
    assert 32 << 20 < throttled.peak_memory() <= 64 << 20


def test_without_control_groups_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CgroupError, match="needs root"), Cgroup("one", 1000, root=tmp_path):
        pass


def test_a_partition_is_throttled_at_its_disk(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    partition = tmp_path / "sda/sda1"
    partition.mkdir(parents=True)
    (partition / "partition").write_text("1")
    (tmp_path / "sda/dev").write_text("8:0\n")
    devices = tmp_path / "by-number"
    devices.mkdir()
    (devices / name).symlink_to(partition)
    assert disk_of(tmp_path, devices) == "8:0"


def test_the_sweep_reads_exactly_what_is_wanted(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_bytes(bytes(5 << 20))
    wanted = 23 << 20  # more than there is: over again
    assert sum(length for _, _, length in ranges(files, wanted)) == wanted
    with pytest.raises(ValueError, match="nothing to read"):
        list(ranges([], 1))


def test_a_short_read_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1 << 20))
    try:
        assert sweep([path], 1 << 20) > 0
    except OSError as error:
        pytest.skip(f"no direct I/O on this file system: {error}")


@pytest.mark.parametrize(
    ("text", "expected"), [("600MB/s", 600e6), ("1GiB", 2**30), ("0.34GB", 0.34e9), ("7", 7)]
)
def test_sizes_are_read(text: str, expected: float) -> None:
    assert bytes_of(text) == expected


def reference(experts: list[int | None]) -> dict[str, Any]:
    return {"passes": [{"workload": "1 token", "experts": count} for count in experts]}


def test_the_floor_of_a_dense_model_is_what_exceeds_the_budget(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps({"bytes": 1000}))
    assert bytes_to_read(small_model(), tmp_path, 300, reference([None]), "1 token") == 700


def test_the_floor_of_a_mixture_counts_the_routed_experts_that_are_not_held(tmp_path: Path) -> None:
    expert = 3 * 64 * 32 * 2
    embedding = 128 * 64 * 2
    always = 5000
    (tmp_path / "bench.json").write_text(json.dumps({"bytes": always + 8 * expert + embedding}))
    budget = always + 4 * expert  # half of the experts fit
    assert bytes_to_read(small_model(), tmp_path, budget, reference([8, 4, 4]), "1 token") == 2 * expert


def run(contender: str, output: str, seconds: float) -> dict[str, Any]:
    a_pass = {"workload": "1 token", "number": 0, "seconds": seconds, "read_bytes": 10, "output": output}
    return {
        "model": "small",
        "contender": contender,
        "budget": 0 if contender == "full" else 300,
        "round": 0,
        "peak_charged": 1,
        "passes": [a_pass, {**a_pass, "number": 1}],
    }


def test_the_report_tells_equal_from_different(tmp_path: Path) -> None:
    np.array([1, 2], np.float32).tofile(tmp_path / "one.float32")
    np.array([1, 2.5], np.float32).tofile(tmp_path / "two.float32")
    floor = {
        "model": "small",
        "budget": 300,
        "workload": "1 token",
        "round": 0,
        "bytes": 7,
        "sweep_seconds": 1.0,
        "seconds": 2.0,
    }
    results = report.Results(
        {
            "floors": [floor],
            "runs": [
                run("full", "one.float32", 1.0),
                run("mmap", "one.float32", 4.0),
                run("airllm", "two.float32", 8.0),
            ],
            "models": {"small": {"title": "small", "bytes": 1000, "budgets": [300], "process_bytes": 5}},
        },
        tmp_path,
    )
    mapped = results.row("small", 300, "1 token", "mmap")
    assert (mapped.result, mapped.to_full, mapped.to_floor) == (
        "equal",
        report.Spread(4, 4, 4),
        report.Spread(2, 2, 2),
    )
    assert results.row("small", 300, "1 token", "airllm").result == "differs by up to 0.5"
    assert "| 4.00 | 4.00 | 4.00 | 2.00 |" in results.table("small", 300, "1 token")


def part_of(workload: str, seconds: float, throttle: int | None = None) -> dict[str, Any]:
    """One round of one workload, as a benchmark of its own."""
    run = {"model": "m", "round": 0, "peak_charged": 1}
    floor = {"model": "m", "round": 0, "budget": 1, "seconds": 1.0, "sweep_seconds": 1.0}
    a_pass = {"workload": workload, "number": 0, "read_bytes": 1, "output": "o"}
    return {
        "machine": {"cores": 2},
        "throttle": throttle,
        "allowance": 1,
        "rounds": 1,
        "models": {"m": {"title": "M", "bytes": 4, "budgets": [1], "process_bytes": 3, "left_out": {}}},
        "floors": [{**floor, "workload": workload}],
        "runs": [
            {**run, "contender": "full", "budget": 0, "passes": [{**a_pass, "seconds": 1.0}]},
            {**run, "contender": "mmap", "budget": 1, "passes": [{**a_pass, "seconds": seconds}]},
        ],
    }


def test_parts_put_together_keep_their_own_references() -> None:
    parts = [part_of("1 token", 2.0), part_of("1 token", 3.0), part_of("256 tokens", 5.0)]
    results = report.Results(merged(parts))
    assert results.groups() == [("m", 1, "1 token"), ("m", 1, "256 tokens")]
    row = results.row("m", 1, "1 token", "mmap")
    assert row.to_full == report.Spread(2.5, 2.0, 3.0) and row.result == "equal"
    assert results.row("m", 1, "256 tokens", "mmap").to_full == report.Spread(5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match="throttle"):
        merged([part_of("1 token", 1.0), part_of("1 token", 1.0, throttle=600)])
