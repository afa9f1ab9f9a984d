#!/usr/bin/env python3
"""Make docs/top.svg from the real thing: the live screen of this kernel, while a process walks files and talks TCP.

sudo .venv/bin/python scripts/screenshot.py [FILE]
"""

import asyncio
import itertools
import multiprocessing
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from kmwatch.kernel.slab import running_limits
from kmwatch.schema import Stacks
from kmwatch.sources.held import Hold
from kmwatch.sources.maps import LiveSource
from kmwatch.sources.probes import parse_kinds
from kmwatch.views.top.app import TopApp
from kmwatch.views.top.feed import Feed

REFRESHES = 17
DEADLINE = 60.0  # seconds
SIZE = (100, 30)


def work() -> None:
    """Walk a file tree, start processes and send over loopback TCP, until terminated."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    page = running_limits().page_size
    for _ in itertools.count():
        for directory, _, files in itertools.islice(os.walk("/usr"), 2000):
            for name in files[:5]:
                Path(directory, name).lstat()
            client.sendall(bytes(3000))
            accepted.recv(page)
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


async def picture() -> str:
    """The screen after some refreshes, as SVG."""
    live = LiveSource(parse_kinds(None), hold=Hold(), stacks=Stacks.SAMPLED)
    live.meta.host = replace(live.meta.host, hostname="host")
    feed = Feed(live)
    app = TopApp(feed)
    try:
        async with app.run_test(size=SIZE) as pilot, asyncio.timeout(DEADLINE):
            seen = set()
            while len(seen) < REFRESHES and feed.error is None:
                await pilot.pause(0.1)
                seen.add(id(app.frame) if app.frame else None)
                seen.discard(None)
            return app.export_screenshot(title="sudo kmwatch top")
    finally:
        feed.close()
        if feed.error:
            raise feed.error


def main() -> None:
    """Work in a child process, take the picture, save it."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "top.svg"
    worker = multiprocessing.get_context("spawn").Process(target=work, daemon=True)
    worker.start()
    try:
        target.write_text(asyncio.run(picture()), encoding="utf-8")
    finally:
        worker.terminate()


if __name__ == "__main__":
    main()
