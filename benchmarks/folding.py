"""How fast a report reads a large capture, and in how much memory. It is no test: it ends with 0 whatever comes out.

python benchmarks/folding.py [EVENTS]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAKE = ROOT / "benchmarks" / "make_capture.py"
TARGET = "at least 10 M events/s, under 600 MB"


def main() -> None:
    """Make a capture, report on it, and print."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000_000
    with tempfile.TemporaryDirectory() as directory:
        capture = Path(directory) / "large.kmw"
        # In a process of its own: what that takes would count as ours.
        subprocess.run([sys.executable, str(MAKE), str(capture), str(events)], check=True)
        for arguments in ([], ["--by", "module"], ["--by", "cgroup"], ["--from", "1", "--to", "5"]):
            began = time.monotonic()
            command = [sys.executable, "-m", "kmwatch", "report", str(capture), *arguments]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            took = time.monotonic() - began
            print(
                f"report {' '.join(arguments):22} {events / 1e6:.0f} M events in {took:5.2f} s: "
                f"{events / took / 1e6:5.1f} M events/s, {usage.ru_maxrss / 1024:.0f} MB, exit {process.returncode}"
            )
    print(f"target: {TARGET}")


if __name__ == "__main__":
    main()
