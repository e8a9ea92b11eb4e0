"""`osasis bench`: how fast osasis is on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from osasis.cli.options import (
    DEFAULT_BASE,
    Amount,
    BaseName,
    Device,
    Output,
    Positive,
    command_line,
    make_writable,
)
from osasis.progress import Progress


def bench(
    *,
    rounds: Positive = 5,
    limit: Amount = 60.0,
    network: Literal["released-256"] | None = None,
    quick: bool = False,
    output: Output | None = None,
    base: BaseName = DEFAULT_BASE,
    device: Device = None,
) -> int:
    """Time the release preset against fast, per photo and per style, and what they are made of.

    Args:
        rounds: repetitions
        limit: leave out and name what is predicted to take more seconds than this
        network: measure this architecture with random weights instead of --base
        quick: leave out whole commands (learning two styles among them) and peers
        output: write bench.json there

    Examples:
      osasis bench
      osasis bench --quick --rounds 10 -o bench/
      osasis bench --network released-256 --rounds 2 --limit 120

    Every round measures each thing once, in turn, so that a slow moment of the
    machine does not fall on one of them alone. Shown are medians, with the fastest
    and the slowest, processor seconds, which other programs do not change, and the
    share of the peak of a matrix product in this run, per processor second (on an
    accelerator, by the clock). A style is extrapolated from one update. Then whole
    commands run once: start-up, learning a first and a second style, one photo, 16,
    a portrait of 1,024 pixels, a film, a batch with two workers. Weights do not
    matter to the cost: released-256 is the paper's architecture with random ones.
    """
    if output is not None:
        make_writable(output)
    from osasis.bench.commands import Ran, commands, run_commands
    from osasis.bench.jobs import Bench, subject
    from osasis.bench.measure import measure
    from osasis.bench.report import print_report, report, write_json

    print("preparing: a base, untrained styles, one evaluation", file=sys.stderr)
    measured = subject(network or base, device)
    planned = Bench(measured, limit)
    jobs = planned.jobs(peers=not quick)
    total = len(jobs) * (rounds + 1)
    with Progress() as progress:
        found = measure(
            jobs, rounds, measured.device, lambda done: progress.update("bench", done, total)
        )
    ran = []
    if not quick and network is None:
        with TemporaryDirectory(prefix="osasis-bench-") as folder:
            whole = commands(measured, Path(folder))
            for done, outcome in enumerate(run_commands(whole, Path(folder)), 1):
                print(f"command {done} of {len(whole)}: {outcome.name}", file=sys.stderr)
                if isinstance(outcome, Ran):
                    ran.append(outcome)
                else:
                    planned.skipped.append(outcome)
    numbers = report(planned, found, ran, command_line(sys.argv[1:]))
    print_report(numbers)
    if output is not None:
        write_json(output / "bench.json", numbers)
        print(f"wrote {output / 'bench.json'}")
    return 0
