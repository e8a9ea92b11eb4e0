"""`osasis bench`: how fast osasis is on this machine."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from osasis._version import __version__
from osasis.cli.options import add_base, add_device, make_writable, positive
from osasis.cli.progress import Progress
from osasis.errors import OsasisError
from osasis.files import atomic_path
from osasis.hub.registry import configs, find_named, paintings

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.cli.options import Subparsers

BATCH = 16

EPILOG = """\
examples:
  osasis bench
  osasis bench --rounds 10 -o bench.json

Every round measures each thing once, in turn, so that a slow moment of the machine does not fall
on one of them alone. Shown are medians, with the fastest and the slowest.
"""


@dataclass(frozen=True)
class Timing:
    """Seconds that one thing took, round by round."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Job:
    """One thing to measure: it returns the seconds it took."""

    name: str
    measure: Callable[[], float]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "bench",
        help="time osasis on this machine",
        description="Time what osasis does on this machine.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--rounds", type=positive, default=5, metavar="N", help="repetitions (default: 5)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write JSON here as well")
    add_base(parser)
    add_device(parser)
    return parser


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A function that does `work` and returns the seconds that took, accelerator included."""

    def measure() -> float:
        import torch

        started = time.perf_counter()
        work()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        return time.perf_counter() - started

    return measure


def import_seconds() -> float:
    """Seconds of `import osasis` in a fresh interpreter, without the interpreter's own start."""
    program = "import time; t = time.perf_counter(); import osasis; print(time.perf_counter() - t)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OsasisError(f"osasis cannot be imported: {done.stderr.strip()}")
    return float(done.stdout)


def unet_job(base: Base) -> Job:
    """One evaluation of a U-Net of the shipped shape; untrained weights cost the same."""
    import torch

    from osasis.models.diffae import DiffAE
    from osasis.pretrain.config import load_config

    config = load_config(configs()["faces-128"], data="unused").model
    model = DiffAE(config).to(base.device).eval().requires_grad_(False)
    side = config.unet.image_size
    x_t = torch.randn(1, 3, side, side, device=base.device)
    t = torch.full((1,), 500, device=base.device)
    conditioning = model.plain(torch.randn(1, config.encoder.z_dim, device=base.device))

    def evaluate() -> object:
        with torch.no_grad():
            return model.eps(x_t, t, conditioning)

    return Job("U-Net evaluation", timed(evaluate))


def stylize_jobs(base: Base) -> list[Job]:
    """One photo, and a batch, in the first shipped style."""
    from osasis.hub.registry import list_styles
    from osasis.imaging.tensors import to_images
    from osasis.style.file import load_style
    from osasis.stylize.stylizer import Stylizer

    styles = list_styles()
    if not styles:
        raise OsasisError("no style is shipped")
    stylizer = Stylizer(base, load_style(styles[0]), batch_size=BATCH)
    [photo] = to_images(base.sample(1, seed=0))
    return [
        Job("stylize 1 photo", timed(lambda: list(stylizer.stream([photo])))),
        Job(f"stylize {BATCH} photos", timed(lambda: list(stylizer.stream([photo] * BATCH)))),
    ]


def learn_job(base: Base, rounds: int, stack: ExitStack) -> Job:
    """One step of learning; what comes before the first step is done here."""
    from osasis.demo import PAINTING
    from osasis.imaging.load import load_image
    from osasis.style.config import PRESETS
    from osasis.style.learn import StyleLearner

    fast = PRESETS["fast"]
    # as many steps as are measured, with a warm-up on either side, and the smallest bank
    config = replace(fast, iterations=rounds + 3, bank=replace(fast.bank, size=fast.batch_size))
    picture = load_image(find_named(PAINTING, paintings(), "painting"))
    steps = stack.enter_context(closing(StyleLearner(base, picture, config).steps()))
    for record in steps:
        if record.phase == "learn":
            break

    def step() -> None:
        if next(steps, None) is None:
            raise OsasisError("learning ended before the measurement")

    return Job("learning step", timed(step))


def gather(
    base_name: str, device: str | None, rounds: int, stack: ExitStack
) -> tuple[list[Job], list[str]]:
    """The jobs that are possible here, and why others are not."""
    from osasis.base import load_base

    jobs = [Job("import osasis", import_seconds)]
    skipped: list[str] = []
    try:
        base = load_base(base_name, device=device)
    except OsasisError as error:
        return jobs, [f"all that needs a base: {error}"]
    makers: dict[str, Callable[[], list[Job]]] = {
        "U-Net evaluation": lambda: [unet_job(base)],
        "stylize": lambda: stylize_jobs(base),
        "learning step": lambda: [learn_job(base, rounds, stack)],
    }
    for name, make in makers.items():
        try:
            jobs += make()
        except OsasisError as error:
            skipped.append(f"{name}: {error}")
    return jobs, skipped


def measure(jobs: list[Job], rounds: int, tell: Callable[[int], None]) -> list[Timing]:
    """Measure all jobs in turn, round by round, after one round of warm-up.

    Args:
        tell: called after every measurement with how many are done.
    """
    seconds: dict[str, list[float]] = {job.name: [] for job in jobs}
    done = 0
    for index in range(rounds + 1):
        for job in jobs:
            took = job.measure()
            if index > 0:
                seconds[job.name].append(took)
            done += 1
            tell(done)
    return [Timing(name, values) for name, values in seconds.items()]


def print_table(timings: list[Timing]) -> None:
    """The table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("what")
    for column in ("median", "fastest", "slowest"):
        table.add_column(column, justify="right")
    for t in timings:
        cells = (t.median, min(t.seconds), max(t.seconds))
        table.add_row(t.name, *(f"{value:.4g} s" for value in cells))
    Console().print(table)


def write_json(path: Path, timings: list[Timing], device: str) -> None:
    """The same numbers, and where they were measured, as JSON."""
    import torch

    report = {
        "osasis": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "timings": [{**asdict(t), "median": t.median} for t in timings],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    if args.output is not None:
        make_writable(args.output.parent)
    with ExitStack() as stack:
        print("preparing: a base, a style, the first steps of learning", file=sys.stderr)
        jobs, skipped = gather(args.base, args.device, args.rounds, stack)
        total = len(jobs) * (args.rounds + 1)
        with Progress() as progress:
            timings = measure(jobs, args.rounds, lambda done: progress.update("bench", done, total))
    print_table(timings)
    for reason in skipped:
        print(f"not measured: {reason}", file=sys.stderr)
    if args.output is not None:
        from osasis.device import choose_device

        write_json(args.output, timings, str(choose_device(args.device)))
        print(f"wrote {args.output}")
    return 0
