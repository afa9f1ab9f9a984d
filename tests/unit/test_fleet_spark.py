"""What Spark complains of is one line."""

import pytest

from kmwatch.sources.fleet.spark import _said

WORKER = """
  An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "worker.py", line 1, in look
ValueError: the first
\x20
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "worker.py", line 2, in look
OSError: a worker cannot fetch s3://b/k: no keys

\tat org.apache.spark.Something(Some.scala:1)
"""
JVM = """An error occurred while calling None.org.apache.spark.sql.classic.SparkSession.
: java.lang.IllegalStateException: All masters are unresponsive
\tat org.apache.spark.Something(Some.scala:1)"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WORKER, "OSError: a worker cannot fetch s3://b/k: no keys"),
        (JVM, "java.lang.IllegalStateException: All masters are unresponsive"),
        ("[TABLE_OR_VIEW_NOT_FOUND] There is none.\nline 2", "[TABLE_OR_VIEW_NOT_FOUND] There is none."),
        ("Traceback (most recent call last):\n  File x", ""),
        ("", ""),
        ("x" * 1000, "x" * 300),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
    ],
)
def test_what_is_wrong_is_one_line(text: str, line: str) -> None:
    assert _said(Exception(text)) == line
