"""What becomes of freed memory, in a process of its own: it cannot be undone in this one."""

import subprocess
import sys

import pytest

COUNTED = """
import resource
from indexing.allocator import keep_freed_memory

{told}
def work():
    for _ in range(20):
        blocks = [b'x' * ({megabytes} << 20) for _ in range(4)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_cleared(told: str, megabytes: int) -> int:
    code = COUNTED.format(told=told, megabytes=megabytes)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_blocks_are_used_again() -> None:
    pages = 20 * 4 * 40 * 256
    assert pages_cleared("", 40) > pages / 2
    assert pages_cleared("keep_freed_memory(of_any_size=True)", 40) < pages / 100
    assert pages_cleared("keep_freed_memory()", 20) < pages / 100


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_the_largest_blocks_go_back_to_the_system() -> None:
    assert pages_cleared("keep_freed_memory()", 40) > 20 * 4 * 40 * 256 / 2
