"""kmwatch: watch the Linux kernel allocate memory, live."""

__version__ = "0.1.0"
