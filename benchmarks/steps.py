"""What a command that takes a while tells meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def step(console: Console, name: str) -> Iterator[None]:
    """Prints what is being done, and how long it took."""
    console.print(f"{name} …")
    start = time.perf_counter()
    yield
    console.print(f"    took {time.perf_counter() - start:.1f} s")
