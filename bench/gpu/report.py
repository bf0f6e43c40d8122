"""The table of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GIB = 2**30
TITLES = {
    "loaded": "fully loaded",
    "host": "weightstream, rest in host memory",
    "limited": "weightstream, host memory limited",
    "packed": "weightstream, packed, decoded by the GPU",
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
    yield f"{'':36} {'1 token':>18} {'4 x 4096 tokens':>18} {'VRAM':>9}  bits"
    for stage in ("loaded", "host", "limited", "packed", "cpu_offload", "disk_offload"):
        if "1 token" in (result := results.get(stage, {})):
            base = results.get("loaded", {})
            cells = [_time(result, base, kind) for kind in ("1 token", "4 x 4096 tokens")]
            peak = max(result[kind]["torch_peak"] for kind in ("1 token", "4 x 4096 tokens"))
            peak += result.get("counters", {}).get("held", 0)
            same = [result[k]["bits"] == base.get(k, {}).get("bits") for k in ("1 token", "4 x 4096 tokens")]
            verdict = "equal" if all(same) else "DIFFER"
            yield f"{TITLES[stage]:36} {cells[0]:>18} {cells[1]:>18} {peak / GIB:8.2f}G  {verdict}"
    for stage in ("video_loaded", "video_streamed", "video_offloaded"):
        if "step" in (result := results.get(stage, {})):
            base = results.get("video_loaded", {})
            cell = _time(result, base, "step")
            peak = result["torch_peak"] + result.get("counters", {}).get("held", 0)
            verdict = "equal" if result["bits"] == base.get("bits") else "DIFFER"
            yield f"{TITLES[stage]:36} {cell:>37} {peak / GIB:8.2f}G  {verdict}"
    if "times_floor_of_bus" in (host := results.get("host", {})):
        yield (
            f"host: {host['times_floor_of_bus']:.3f} x the floor of the bus, "
            f"{host['share_of_bus']:.1%} of the bus, first pass {host['first_pass']:.1f} s"
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


def _time(result: dict[str, Any], base: dict[str, Any], kind: str) -> str:
    seconds = result[kind]["median"]
    if kind not in base:
        return f"{seconds:.3f} s"
    return f"{seconds:.3f} s ({seconds / base[kind]['median']:.2f}x)"
