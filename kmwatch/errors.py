"""One base error; each kind carries the exit code of the command line. Messages end in the next step."""


class KmwatchError(Exception):
    """Base of every error that kmwatch raises on purpose: one line for the user, and an exit code."""

    exit_code = 5


class UsageError(KmwatchError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class NotPossibleError(KmwatchError):
    """The kernel or the privileges do not allow it; the message says what would."""

    exit_code = 3


class BadInputError(KmwatchError):
    """A file, a capture or a kernel text is not what it should be."""

    exit_code = 4
