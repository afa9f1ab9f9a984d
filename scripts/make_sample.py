#!/usr/bin/env python3
"""Record the sample that is bundled with kmwatch: a real run of a few seconds on this machine, small enough to ship.

`sudo .venv/bin/python scripts/make_sample.py` replaces kmwatch/sample.kmw, and sample.md beside it: what ran.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "kmwatch" / "sample.kmw"
LARGEST = 300_000  # bytes of the whole directory
# Directories are read, files copied, processes started, a pipe and the loopback used: a little of everything.
COMMAND = """
ls -R /usr/share/doc | head -200 > /dev/null
date | cat > /dev/null
/usr/bin/python3 -I -S -c 'import socket
pair = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(pair.getsockname())
other, _ = pair.accept()
for _ in range(150):
    one.sendall(bytes(3000))
    other.recv(3000)
'
sleep 1
"""
NOTE = """\
# The bundled capture

A real recording, made by scripts/make_sample.py, with one stack in 127 events beside those of pages and failures:

```text
{info}
```

This ran:

```sh
{command}
```
"""


def main() -> None:
    """Record, check the size, and say what came of it."""
    kmwatch = [sys.executable, "-m", "kmwatch"]
    recording = [*kmwatch, "record", "-o", str(SAMPLE), "--force", "--stacks", "sampled", "--", "sh", "-c", COMMAND]
    subprocess.run(recording, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    taken = sum(path.stat().st_size for path in SAMPLE.iterdir())
    if taken > LARGEST:
        sys.exit(f"{SAMPLE} has {taken:,} bytes, at most {LARGEST:,} are shipped: let the command do less")
    info = subprocess.run([*kmwatch, "info", str(SAMPLE.relative_to(ROOT))], check=True, cwd=ROOT, capture_output=True)
    words = NOTE.format(command=COMMAND.strip(), info=info.stdout.decode().rstrip())
    SAMPLE.with_suffix(".md").write_text(words, encoding="utf-8")


if __name__ == "__main__":
    main()
