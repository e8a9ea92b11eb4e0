"""What the first, the second and a later style of one run cost, in processor seconds.

    OMP_NUM_THREADS=1 python scripts/measure_collection.py FOLDER_OF_PICTURES --iterations 2

Processor time of this process, so that other work on the machine counts little. The content bank is
drawn into a folder of its own, as for the first style of a base.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from osasis.base import load_base
from osasis.config.presets import PRESETS
from osasis.imaging.load import find_images
from osasis.learn.collection import Collection, style_tasks
from osasis.learn.workshop import Workshop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--base", default="faces-128")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--styles", type=int, default=3)
    args = parser.parse_args()
    config = PRESETS[args.preset]
    if args.iterations:
        config = replace(config, iterations=args.iterations)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OSASIS_CACHE"] = folder
        begun = time.process_time()

        def say(what: str) -> None:
            nonlocal begun
            now = time.process_time()
            print(f"{what}: {now - begun:.1f} s", flush=True)
            begun = now

        workshop = Workshop(load_base(args.base), config)
        say("base")
        list(workshop.bank.fill())
        say(f"bank of {config.bank.size} photos")
        styles = Path(folder) / "styles"
        styles.mkdir()
        tasks = style_tasks(find_images([args.pictures])[: args.styles], styles)
        for task, outcome in Collection(workshop, styles).run(tasks):
            say(f"{task.name} ({outcome}, {task.output.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
