"""A benchmark's numbers put together: derived ones, the table, the JSON file."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from osasis._version import __version__
from osasis.bench.commands import Ran
from osasis.bench.jobs import (
    COMPARED,
    PEAK,
    TRAINED,
    Bench,
    evaluations_of,
    judged_here,
    peer_cost,
    style_cost,
    update_name,
)
from osasis.bench.measure import Measured
from osasis.config.presets import PRESETS
from osasis.files import write_text
from osasis.terminal import table as new_table


def report(bench: Bench, found: list[Measured], ran: list[Ran], command: str) -> dict[str, Any]:
    """Everything that was measured and what follows from it, ready for JSON."""
    by_name = {m.name: m for m in found}
    return {
        "osasis": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "device": str(bench.base.device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "network": bench.base.name,
        "image_size": bench.base.image_size,
        "peak_flops_per_second": by_name[PEAK].flops_per_second,
        "style_file_bytes": bench.style_bytes,
        "jobs": [_row(m, by_name[PEAK]) for m in found],
        "per_photo": _per_photo(by_name),
        "per_style": _per_style(bench, by_name),
        "peers_cpu_seconds_per_photo": peer_cost(
            {m.name: statistics.median(m.cpu_seconds) for m in found}
        ),
        "commands": [asdict(r) for r in ran],
        "not_measured": [asdict(s) for s in bench.skipped],
    }


def _row(m: Measured, peak: Measured) -> dict[str, Any]:
    share = m.flops_per_second / peak.flops_per_second if m.flops else None
    derived = {"median": m.median, "cpu_median": statistics.median(m.cpu_seconds)}
    return {**asdict(m), **derived, "share_of_peak": share}


def _per_photo(by_name: dict[str, Measured]) -> dict[str, Any]:
    """Evaluations of each preset, and the ratio of their seconds round by round."""
    counts = {p: evaluations_of(PRESETS[p].stylize_route) for p in COMPARED}
    slow, fast = (by_name.get(f"stylize 1 photo, {preset}") for preset in COMPARED)
    return {"evaluations": counts, "times_faster": ratios(slow, fast)}


def _per_style(bench: Bench, by_name: dict[str, Measured]) -> dict[str, Any]:
    """Seconds of a style, extrapolated; from a predicted update where none was measured."""
    base = bench.base
    evaluation = by_name["U-Net evaluation, batch 1"].median
    costs: dict[str, Any] = {}
    for preset in COMPARED:
        config, measured = PRESETS[preset], by_name.get(update_name(preset))
        predicted = TRAINED * (config.batch_size + 1) * evaluation
        update = measured.median if measured else predicted
        costs[preset] = {
            "update_seconds": update,
            "update_is": "measured" if measured else f"predicted, {TRAINED} evaluations a picture",
            **style_cost(config, update, evaluation),
        }
    slow, fast = (by_name.get(update_name(preset)) for preset in COMPARED)
    totals = [costs[preset]["first_style"] for preset in COMPARED]
    return {
        "how": "one update and one evaluation of a picture, times their counts",
        "base": base.name,
        "times_faster_update": ratios(slow, fast),
        "times_faster_style": totals[0] / totals[1],
        **costs,
    }


def ratios(slow: Measured | None, fast: Measured | None) -> dict[str, float] | None:
    """Median and range of the ratios of two jobs' seconds, round by round."""
    if slow is None or fast is None:
        return None
    each = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def print_report(numbers: dict[str, Any]) -> None:
    """The table, and what follows from it, on standard output."""
    print_jobs(numbers["network"], numbers["machine"]["device"], numbers["jobs"])
    console = Console()
    if numbers["commands"]:
        console.print(_commands_table(numbers["commands"]))
    for line in findings(numbers):
        console.print(line, highlight=False)


def print_jobs(network: str, device: str, rows: list[dict[str, Any]]) -> None:
    """The table of what was measured, on standard output."""
    numbers = ("s", "range", "CPU s", "evals", "of peak", "MiB")
    table = new_table(f"{network}, {device}", ("what",), numbers)
    for row in rows:
        share, memory = row["share_of_peak"], row["peak_memory"]
        table.add_row(
            row["name"],
            f"{row['median']:.3g}",
            f"{min(row['seconds']):.3g}-{max(row['seconds']):.3g}",
            f"{row['cpu_median']:.3g}",
            str(row["evaluations"] or ""),
            "" if share is None else f"{share:.0%}",
            "" if memory is None else f"{memory / 2**20:.0f}",
        )
    Console().print(table)


def _commands_table(rows: list[dict[str, Any]]) -> Table:
    numbers = ("s", "CPU s", "CPU s a picture", "MiB")
    table = new_table("whole commands, once, start-up included", ("what",), numbers)
    for row in rows:
        each = f"{row['cpu_seconds'] / row['count']:.3g}" if row["count"] > 1 else ""
        memory = f"{row['peak_memory'] / 2**20:.0f}"
        table.add_row(
            row["name"], f"{row['seconds']:.3g}", f"{row['cpu_seconds']:.3g}", each, memory
        )
    return table


def findings(numbers: dict[str, Any]) -> list[str]:
    """What the numbers say, in sentences."""
    photo, style = numbers["per_photo"], numbers["per_style"]
    second = "processor second" if numbers["jobs"][0]["on_cpu"] else "second"
    peak = numbers["peak_flops_per_second"] / 1e9
    lines = [f"Peak: {peak:.1f} GFLOP a {second} ({PEAK}, float32); shares are of it."]
    counts = photo["evaluations"]
    line = f"A photo: {counts['release']} evaluations with release, {counts['fast']} with fast"
    if faster := photo["times_faster"]:
        line += f"; fast is {_range(faster)} times faster"
    lines.append(line + ".")
    for preset in COMPARED:
        cost = style[preset]
        lines.append(
            f"A style with {judged_here(preset).title}, extrapolated ({cost['update_is']}): "
            f"{cost['updates']} updates of {cost['update_seconds']:.3g} s, "
            f"bridge {cost['bridge']:.3g} s, bank {cost['bank']:.3g} s; "
            f"{cost['first_style']:.4g} s the first, "
            f"{cost['further_style']:.4g} s each further one."
        )
    lines.append(f"fast learns a style {style['times_faster_style']:.3g} times faster.")
    lines += [
        f"A photo with the peer {name}: {seconds:.3g} CPU s"
        + ("." if name == "adain" else ", extrapolated to its full length.")
        for name, seconds in numbers["peers_cpu_seconds_per_photo"].items()
    ]
    lines.append(f"A style file of fast: {numbers['style_file_bytes'] / 1e6:.2f} MB.")
    lines += [f"Not measured: {s['name']}: {s['reason']}" for s in numbers["not_measured"]]
    return lines


def _range(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def write_json(path: Path, numbers: dict[str, Any]) -> None:
    """The report as JSON, at once or not at all."""
    write_text(path, json.dumps(numbers, indent=2) + "\n")
