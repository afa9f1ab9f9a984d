"""The thread that reads the source: it opens and closes it, folds its batches into frames, and tells a listener."""

import threading
from collections.abc import Callable

from kmwatch.batch import Source
from kmwatch.thresholds import DEFAULTS, Thresholds
from kmwatch.views.top.frame import Frame, Frames
from kmwatch.views.top.playback import Playable

Listener = Callable[[Frame | None], None]


class Feed:
    """Reads a source in a thread of its own. The source is closed by that thread, whatever ends it.

    Args:
        source: not yet entered.
        opened: called in the thread when the source is open.
        thresholds: what the rules hold it to.
        wanted: the view that is built first.
    """

    def __init__(
        self,
        source: Source,
        opened: Callable[[], None] = lambda: None,
        thresholds: Thresholds = DEFAULTS,
        wanted: str = "sites",
    ) -> None:
        self._source, self._opened, self._thresholds = source, opened, thresholds
        self.playback = source if isinstance(source, Playable) else None
        """The controls of the source, if it has any; it then stays at its end."""
        if self.playback:
            self.playback.stay()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._run, name="kmwatch-feed", daemon=True)
        self.meta = source.meta
        self.error: BaseException | None = None
        """What ended the reading, if it was no end of its own."""
        self.wanted = wanted
        """The view that is on the screen, built in this thread."""

    def start(self, listener: Listener) -> None:
        """Begin; the listener is called from the thread with each frame, and with None at the end."""
        self._listener = listener
        self._thread.start()

    def mute(self) -> None:
        """Never call the listener again: none is on its way when this returns."""
        with self._lock:
            self._listener = None

    def close(self) -> None:
        """End the reading and wait until the source is closed."""
        self._stopping.set()
        self._source.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._source as source:
                self._opened()
                self._read(source)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that asked
            self.error = error
        self._tell(None)

    def _read(self, source: Source) -> None:
        frames = Frames(source.meta, replayed=self.playback is not None, thresholds=self._thresholds)
        if self._stopping.is_set():
            return
        on_the_way = False
        for batch in source:
            if self._stopping.is_set():
                return
            frame = frames.add(batch, judge=on_the_way)
            on_the_way = self.playback is not None and self.playback.seeking
            if not on_the_way:
                self._tell(self._ready(frame))

    def _ready(self, frame: Frame) -> Frame:
        """Build what the screen shows here, where the screen does not wait for it."""
        frame.rows(self.wanted)
        _ = frame.header
        return frame

    def _tell(self, frame: Frame | None) -> None:
        with self._lock:
            if self._listener:
                self._listener(frame)
