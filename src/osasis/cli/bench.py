"""`osasis bench`: how fast osasis is on this machine."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from osasis.cli.options import add_base, add_device, amount, make_writable, positive
from osasis.cli.progress import Progress

if TYPE_CHECKING:
    from osasis.cli.options import Subparsers

EPILOG = """\
examples:
  osasis bench
  osasis bench --quick --rounds 10 -o bench/
  osasis bench --network released-256 --rounds 2 --limit 120

Every round measures each thing once, in turn, so that a slow moment of the machine does not fall
on one of them alone. Shown are medians, with the fastest and the slowest, processor seconds, which
other programs do not change, and the share of the peak that a matrix product reaches in this run.
A style is extrapolated from one update. Then whole commands run once: start-up, learning a first
and a second style, one photo, 16, a portrait of 1,024 pixels, a film, a batch with two workers.
Weights do not matter to the cost: released-256 is the paper's architecture with random ones.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "bench",
        help="time osasis on this machine",
        description="Time the release preset against fast, per photo and per style, and what they "
        "are made of.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--rounds", type=positive, default=5, metavar="N", help="repetitions (default: 5)"
    )
    parser.add_argument(
        "--limit",
        type=amount,
        default=60.0,
        metavar="S",
        help="leave out and name what is predicted to take more than S seconds (default: 60)",
    )
    parser.add_argument(
        "--network",
        choices=("released-256",),
        help="measure this architecture with random weights instead of --base",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out whole commands (learning two styles among them) and peers",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write bench.json there")
    add_base(parser)
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write JSON."""
    if args.output is not None:
        make_writable(args.output)
    from osasis.bench.commands import Ran, commands, run_commands
    from osasis.bench.jobs import Bench
    from osasis.bench.measure import measure
    from osasis.bench.report import print_report, report, write_json
    from osasis.bench.subjects import subject

    print("preparing: a base, untrained styles, one evaluation", file=sys.stderr)
    base = subject(args.network or args.base, args.device)
    bench = Bench(base, args.limit)
    jobs = bench.jobs(peers=not args.quick)
    total = len(jobs) * (args.rounds + 1)
    with Progress() as progress:
        found = measure(
            jobs, args.rounds, base.device, lambda done: progress.update("bench", done, total)
        )
    ran = []
    if not args.quick and not args.network:
        with TemporaryDirectory(prefix="osasis-bench-") as folder:
            planned = commands(base, Path(folder))
            for done, outcome in enumerate(run_commands(planned, Path(folder)), 1):
                print(f"command {done} of {len(planned)}: {outcome.name}", file=sys.stderr)
                if isinstance(outcome, Ran):
                    ran.append(outcome)
                else:
                    bench.skipped.append(outcome)
    numbers = report(bench, found, ran, shlex.join(["osasis", *sys.argv[1:]]))
    print_report(numbers)
    if args.output is not None:
        write_json(args.output / "bench.json", numbers)
        print(f"wrote {args.output / 'bench.json'}")
    return 0
