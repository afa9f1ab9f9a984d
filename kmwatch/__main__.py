"""The entry point: the one place where errors become exit codes."""

import signal
import sys
import traceback

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends quietly, without a traceback

import click

from kmwatch.cli import cli
from kmwatch.errors import KmwatchError


def main() -> None:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = cli(standalone_mode=False)
    except KmwatchError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception:  # noqa: BLE001  # Python itself would leave with 1, which says that a check failed
        traceback.print_exc()
        sys.exit(KmwatchError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    click.echo(f"kmwatch: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
