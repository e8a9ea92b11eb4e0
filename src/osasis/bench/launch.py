"""Runs one command and says what it cost, as JSON on stdout: `python -I launch.py LOG COMMAND...`.

A process of its own, which imports nothing of osasis: on Linux a new process's peak memory begins
with that of the process that started it, so the one that starts it must be small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run it; print status, seconds, processor seconds and peak memory."""
    log, *command = sys.argv[1:]
    with open(log, "wb") as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    unit = 1 if sys.platform == "darwin" else 1024
    found = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory": used.ru_maxrss * unit,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
