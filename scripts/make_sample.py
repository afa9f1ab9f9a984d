#!/usr/bin/env python3
"""Record the sample that is bundled with kmwatch: a real run of a few seconds on this machine, small enough to ship.

`sudo .venv/bin/python scripts/make_sample.py` replaces kmwatch/sample.kmw and tells below it what was run.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "kmwatch" / "sample.kmw"
LARGEST = 300_000  # bytes of the whole directory
# Directories are read, files copied, processes started, a pipe and the loopback used: a little of everything.
COMMAND = """
ls -R /usr/share/doc | head -400 > /dev/null
date | cat > /dev/null
tar -cf - /etc/init.d 2> /dev/null | tar -tf - > /dev/null
/usr/bin/python3 -I -S -c 'import socket
pair = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(pair.getsockname())
other, _ = pair.accept()
for _ in range(200):
    one.sendall(bytes(3000))
    other.recv(3000)
'
sleep 1
"""


def main() -> None:
    """Record, check the size, and say what came of it."""
    kmwatch = [sys.executable, "-m", "kmwatch"]
    recording = [*kmwatch, "record", "-o", str(SAMPLE), "--force", "--stacks", "sampled", "--", "sh", "-c", COMMAND]
    subprocess.run(recording, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    taken = sum(path.stat().st_size for path in SAMPLE.iterdir())
    if taken > LARGEST:
        sys.exit(f"{SAMPLE} has {taken:,} bytes, at most {LARGEST:,} are shipped: let the command do less")
    subprocess.run([*kmwatch, "info", str(SAMPLE)], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
