"""A control group that confines a command's memory (page cache included) and may throttle its reads."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path("/sys/fs/cgroup")


class CgroupError(RuntimeError):
    """Control groups can't be used here; the message says what is missing."""


def disk_of(path: Path, devices: Path = Path("/sys/dev/block")) -> str:
    """`major:minor` of the whole disk that `path` lies on: a throttle on a partition is refused."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    entry = (devices / device).resolve()
    if not entry.exists():
        raise CgroupError(
            f"{path} lies on device {device}, which is no disk of this machine (tmpfs, overlay, network?)"
        )
    if (entry / "partition").exists():
        return (entry.parent / "dev").read_text().strip()
    return device


class Cgroup:
    """Context manager: made on entry, removed on exit. `memory` in bytes, `read_rate` in bytes per second.

    Works with version 2 and with version 1 (memory and blkio controllers). Needs root.
    """

    def __init__(
        self, name: str, memory: int | None, read_rate: int | None = None, disk: str = "", root: Path = ROOT
    ) -> None:
        self.memory = memory
        self.read_rate = read_rate
        self.disk = disk
        self.root = root
        self.is_version_2 = (root / "cgroup.controllers").exists()
        if self.is_version_2:
            self.memory_folder = self.io_folder = root / name
        else:
            self.memory_folder, self.io_folder = root / "memory" / name, root / "blkio" / name

    def __enter__(self) -> "Cgroup":
        try:
            if self.is_version_2:
                self.limit_version_2()
            else:
                self.limit_version_1()
        except OSError as error:
            self.remove()
            raise CgroupError(
                f"the benchmark confines memory through control groups under {self.root} and needs root "
                f"and their memory{' and io' if self.read_rate else ''} controllers: {error}"
            ) from error
        return self

    def limit_version_2(self) -> None:
        wanted = ["memory"] + (["io"] if self.read_rate else [])
        enabled = (self.root / "cgroup.subtree_control").read_text().split()
        for controller in wanted:
            if controller not in enabled:
                (self.root / "cgroup.subtree_control").write_text(f"+{controller}")
        self.memory_folder.mkdir()
        if self.memory:
            (self.memory_folder / "memory.max").write_text(str(self.memory))
            swap = self.memory_folder / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        if self.read_rate:
            (self.io_folder / "io.max").write_text(f"{self.disk} rbps={self.read_rate}")

    def limit_version_1(self) -> None:
        self.memory_folder.mkdir()
        if self.memory:
            (self.memory_folder / "memory.limit_in_bytes").write_text(str(self.memory))
            with_swap = self.memory_folder / "memory.memsw.limit_in_bytes"
            if with_swap.exists():
                with_swap.write_text(str(self.memory))
        if self.read_rate:
            self.io_folder.mkdir()
            throttle = self.io_folder / "blkio.throttle.read_bps_device"
            throttle.write_text(f"{self.disk} {self.read_rate}")

    def start(self, command: Sequence[str], **popen: Any) -> "subprocess.Popen[Any]":
        """Starts `command` inside: a shell moves itself in, then becomes the command."""
        folders = dict.fromkeys([self.memory_folder, self.io_folder])
        lists = [str(folder / "cgroup.procs") for folder in folders if folder.exists()]
        enter = "".join(f"echo $$ > '{entry}' && " for entry in lists)
        return subprocess.Popen(["sh", "-c", f'{enter}exec "$@"', "sh", *command], **popen)

    def peak_memory(self) -> int:
        """Most bytes that were charged at once, page cache included; 0 where the kernel doesn't say."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (self.memory_folder / name).exists():
                return int((self.memory_folder / name).read_text())
        return 0

    def killed(self) -> bool:
        """Whether the kernel killed a process for going over the limit."""
        for name in ("memory.events", "memory.oom_control"):
            if (self.memory_folder / name).exists():
                facts = dict(line.split() for line in (self.memory_folder / name).read_text().splitlines())
                return int(facts.get("oom_kill", 0)) > 0
        return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_processes()
        self.remove()

    def end_processes(self) -> None:
        """Ends what still runs inside, as after an interrupt."""
        members = self.memory_folder / "cgroup.procs"
        for number in members.read_text().split() if members.exists() else []:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)

    def remove(self) -> None:
        for folder in dict.fromkeys([self.memory_folder, self.io_folder]):
            for _ in range(50):  # an ended process leaves its group a moment later
                try:
                    if folder.exists():
                        folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
