"""Telling systemd how the service is, as sd_notify(3) describes it: a datagram to a socket that it names."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_MICRO = 1_000_000


class Notifier:
    """The socket of systemd, or nothing where the service does not run under it.

    It is connected when it is made: that still works where the process has given its privileges up since.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self.watchdog = _watchdog(environment)
        """Seconds after which systemd takes silence for a hang; 0.0 where it does not look."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                self._socket.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            except OSError:
                self.close()

    def ready(self) -> None:
        """The service does its work."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; ready() follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self, words: str) -> None:
        """It still does; `words` are shown by `systemctl status`."""
        self._send(f"WATCHDOG=1\nSTATUS={' '.join(words.split())}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket:
            with suppress(OSError):  # systemd is being restarted, or its socket is full: the next one will do
                self._socket.send(text.encode())


def _watchdog(environment: Mapping[str, str]) -> float:
    mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    micro = environment.get("WATCHDOG_USEC", "")
    return int(micro) / _MICRO if mine and micro.isascii() and micro.isdigit() else 0.0
