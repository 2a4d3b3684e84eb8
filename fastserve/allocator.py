"""The C library's allocator: memory that a request has freed is there for the next one, already mapped.

Takes no view of what the memory is for. Called by `server.py`, once, before anything large is loaded.
"""

from __future__ import annotations

from typing import Final

from fastserve.options import KIB, MIB

# glibc maps blocks from 128 KiB on one by one, and hands back what is free beyond that; each request with a
# tensor then has its pages faulted in and cleared anew. It raises both bounds when a mapped block is freed: to the
# size of that block and to twice that (mallopt(3), M_MMAP_THRESHOLD). So it would come here by itself, with the first
# large request. With more, what a flood of 300 large answers had taken stayed mapped: 60 MB with 16 MiB here.
LARGEST_BYTES: Final = 8 * MIB - 8 * KIB  # in a block of whole pages with its header, just below


def keep_freed_memory() -> None:
    """Raise glibc's dynamic bounds: 1 MB msgpack tensors then cost a quarter of the CPU time.

    Takes no memory: a mapped block of zeros is touched by nobody. Bounds that MALLOC_MMAP_THRESHOLD_ or
    MALLOC_TRIM_THRESHOLD_ set stay as they are, and another C library does not mind.
    """
    bytes(LARGEST_BYTES)
