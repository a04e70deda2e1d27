"""What stops a benchmark."""


class BenchmarkError(Exception):
    """A benchmark cannot run; the message is for people."""
