import os
import subprocess
import sys

import pytest
from weightstream import memory
from weightstream.memory import _cgroups_free, format_bytes, free_memory, parse_memory
from weightstream.progress import Progress
from weightstream.report import Stats
from weightstream.timeline import _chrome

from bench.cgroup import Cgroup, CgroupError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (123, 123), ("123", 123), ("1GiB", 2**30), ("1.5GiB", 3 * 2**29), ("800MB", 800 * 10**6),
        ("2 g", 2 * 10**9), ("64kib", 65536), ("7B", 7), (2**63 - 1, 2**63 - 1),
    ],
)  # fmt: skip
def test_sizes(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "", "much", "1.5", "-1GiB", "1XiB", "0", 0, -5, 1.5, 0.0, True, None, [], "0%", "150%",
        2**63, 10**30, "8388608TiB", "9" * 400 + "GiB", float("inf"), float("nan"),
    ],
)  # fmt: skip
def test_what_is_no_size(wrong):
    with pytest.raises(ValueError, match="memory"):
        parse_memory(wrong)


def test_shares_of_free_memory(monkeypatch):
    monkeypatch.setattr("weightstream.memory.free_memory", lambda: 1000)
    assert parse_memory(0.5) == parse_memory("50%") == 500


def test_free_memory_is_something():
    assert free_memory() > 2**20


@pytest.mark.parametrize("version", [1, 2])
def test_cgroup_limits_of_all_ancestors(tmp_path, version):
    proc = tmp_path / "cgroup"
    if version == 2:
        proc.write_text("0::/a/b\n")
        base = tmp_path
        (tmp_path / "cgroup.controllers").write_text("memory")
        names, cache = ("memory.max", "memory.current"), "inactive_file"
    else:
        proc.write_text("5:cpu:/a\n4:memory:/a/b\n")
        base = tmp_path / "memory"
        names, cache = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"
    for folder, limit in (("a", "1000"), ("a/b", "max" if version == 2 else "5000")):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / names[0]).write_text(limit)
        (base / folder / names[1]).write_text("300")
        (base / folder / "memory.stat").write_text(f"anon 1\n{cache} 100\n")
    assert min(_cgroups_free(proc, tmp_path)) == 800


def test_the_kernels_limit_counts():
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    ask = "import runpy, sys; print(runpy.run_path(sys.argv[1])['free_memory']())"
    try:
        with Cgroup(f"weightstream-free-{os.getpid()}", 64 * 2**20) as group:
            child = group.start(
                [sys.executable, "-c", ask, memory.__file__], stdout=subprocess.PIPE, text=True
            )
            answer, _ = child.communicate(timeout=300)
    except CgroupError as error:
        pytest.skip(str(error))
    assert 32 * 2**20 < int(answer) < 64 * 2**20


def test_format_bytes():
    assert [format_bytes(n) for n in (5, 1536, 3 * 2**30)] == ["5 B", "1.50 KiB", "3.00 GiB"]


GIB = 2**30


def test_a_report_says_how_near_the_floor_a_pass_came():
    stats = Stats.of(
        {
            "budget": GIB, "used": GIB, "model_bytes": 3 * GIB, "passes": 2, "pass_bytes": 2 * GIB + 5,
            "pass_ns": 2_100_000_000, "pass_stall_ns": 1_000_000_000, "read_rate": GIB, "unheard_of": 1,
        }
    )  # fmt: skip
    assert stats.oversize == 3 and stats.read_floor == 2.0 and stats.floor == 2.0
    assert "95 % of what this disk allows" in str(stats)


def test_a_report_where_computing_is_the_limit():
    stats = Stats(budget=GIB, model_bytes=GIB, passes=1, pass_ns=10**9, pass_stall_ns=10**8, read_rate=GIB)
    assert stats.floor == pytest.approx(0.9) and "90 % of the speed of computation" in str(stats)


def test_a_report_before_the_first_pass():
    assert Stats(budget=1, model_bytes=4).verdict == "" and "4.0 times" in str(Stats(budget=1, model_bytes=4))


def test_reads_that_overlap_have_rows_of_their_own():
    events = [
        ("read", 0, 1000, 1, 7),
        ("read", 500, 1500, 2, 7),
        ("read", 1200, 1300, 3, 7),
        ("block", 0, 10, 0, 7),
    ]
    shown = {event["name"]: event for event in _chrome(events, ["Model"]) if event["ph"] == "X"}
    assert shown["read 1"]["tid"] == shown["read 3"]["tid"] != shown["read 2"]["tid"]
    assert shown["Model"]["dur"] == 0.01


def test_progress_is_quiet_without_a_terminal_and_says_when_all_is_read(capsys):
    class Source:
        bytes_read = 1

        def stats(self):
            return {"bytes_read": self.bytes_read, "model_bytes": 10}

    source = Source()
    progress = Progress(source)
    assert not progress.show()
    source.bytes_read = 12
    assert progress.show()
    progress.close()
    assert capsys.readouterr().err == ""
