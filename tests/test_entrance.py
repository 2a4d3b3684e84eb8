"""What is read anew on SIGHUP: on threads, one for each file, and once more for whoever asks meanwhile."""

from __future__ import annotations

import asyncio
import threading

from fastserve.entrance import _Reader


def test_who_asks_while_it_is_read_has_it_read_once_more() -> None:
    gate, reads, used = threading.Semaphore(0), 0, list[int]()

    def read() -> int:
        nonlocal reads
        assert gate.acquire(timeout=10)
        reads += 1
        return reads

    async def main() -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def use(result: int) -> None:
            assert threading.current_thread() is threading.main_thread()
            used.append(result)
            over.set()

        reader = _Reader(loop, read, use)
        threads = threading.active_count()
        for _ in range(3):
            reader.read()
        assert threading.active_count() == threads + 1
        for count in (1, 2):
            gate.release()
            await asyncio.wait_for(over.wait(), 10)
            over.clear()
            assert used == [1, 2][:count]
        reader.read()
        gate.release()
        await asyncio.wait_for(over.wait(), 10)
        assert used == [1, 2, 3]

    asyncio.run(main())


def test_a_file_that_hangs_keeps_no_other_from_being_read() -> None:
    gate = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        _Reader(loop, lambda: gate.wait(10), lambda _: None).read()
        _Reader(loop, lambda: None, lambda _: over.set()).read()
        await asyncio.wait_for(over.wait(), 10)
        gate.set()

    asyncio.run(main())
