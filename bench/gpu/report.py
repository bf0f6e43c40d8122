"""The table of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

GIB = 2**30
TITLES = {
    "loaded": "fully loaded",
    "host": "weightstream, rest in host memory",
    "limited": "weightstream, host memory limited",
    "packed": "weightstream, packed, decoded by the GPU",
    "split": "weightstream, over two GPUs",
    "cpu_offload": "accelerate cpu_offload",
    "disk_offload": "accelerate disk offload",
    "video_loaded": "video DiT, fully loaded",
    "video_streamed": "video DiT, weightstream",
    "video_offloaded": "video DiT, diffusers group offload",
}


def table(results: dict[str, Any]) -> str:
    """What was measured, for people; ratios are to the fully loaded model."""
    return "\n".join(_lines(results))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    if "bus" in (limits := results.get("limits", {})):
        yield (
            f"{limits['device']}, torch {limits['torch']}: bus {limits['bus'] / 1e9:.1f} GB/s, "
            f"disk {limits['disk'] / 1e9:.2f} GB/s"
        )
    yield from _rows(results, ("loaded", "host", "limited", "packed", "split", "cpu_offload", "disk_offload"))
    yield from _rows(results, ("video_loaded", "video_streamed", "video_offloaded"))
    if "times_floor_of_bus" in (host := results.get("host", {})):
        yield (
            f"host: {host['times_floor_of_bus']:.3f} x the floor of the bus, "
            f"{host['share_of_bus']:.1%} of the bus, idle for {host['bus_idle']:.2%} of a pass, "
            f"first pass {host['first_pass']:.1f} s"
        )
    if "times_floor_of_disk" in (limited := results.get("limited", {})):
        yield f"limited: {limited['times_floor_of_disk']:.3f} x the floor of the disk"
    if "growth" in (endurance := results.get("endurance", {})):
        yield f"{endurance['passes']} passes: grown by {endurance['growth']}"
    for stage, result in results.items():
        if "error" in result:
            yield f"{stage}: FAILED: {result['error'].strip().splitlines()[-1]}"
        elif "left out" in result:
            yield f"{stage}: left out: {result['left out']}"


def _rows(results: dict[str, Any], stages: Sequence[str]) -> Iterator[str]:
    """A head, and a row for each stage that was measured; others are compared with the first."""
    base = results.get(stages[0], {})
    kinds = [kind for kind, value in base.items() if isinstance(value, dict) and "bits" in value]
    if kinds:
        yield f"{'':40} {kinds[0]:>18} {kinds[1]:>18} {'VRAM':>9}  bits"
    for stage in stages:
        result = results.get(stage, {})
        if not kinds or any(kind not in result for kind in kinds):
            continue
        cells = [_time(result, base, kind) for kind in kinds]
        peak = max(result[kind]["torch_peak"] for kind in kinds) + result.get("counters", {}).get("held", 0)
        verdict = "equal" if all(result[kind]["bits"] == base[kind]["bits"] for kind in kinds) else "DIFFER"
        yield f"{TITLES[stage]:40} {cells[0]:>18} {cells[1]:>18} {peak / GIB:8.2f}G  {verdict}"


def _time(result: dict[str, Any], base: dict[str, Any], kind: str) -> str:
    seconds = result[kind]["median"]
    return f"{seconds:.3f} s ({seconds / base[kind]['median']:.2f}x)"
