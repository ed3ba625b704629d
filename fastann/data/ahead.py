"""Reading one block ahead of whoever works on the blocks, so that disk and compute overlap."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

NAME = "fastann-read-ahead"


def read_ahead(read: Callable[[Any], Any], parts: Iterable[Any]) -> Generator[Any, None, None]:
    """Yield ``read(part)`` for every part, each read by a thread while the one before it is worked on.

    Two blocks exist at most: the one handed out, to which no reference is kept here, and the next. The thread
    ends with the generator, however that ends; an error in it is raised here with its own traceback.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=NAME)
    coming: deque[Future] = deque()
    try:
        for part in parts:
            coming.append(pool.submit(read, part))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        # The garbage collector may close a generator from any thread, also from one that cannot wait for itself.
        pool.shutdown(wait=not threading.current_thread().name.startswith(NAME), cancel_futures=True)
