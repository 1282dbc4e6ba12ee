"""Worker processes that end when the process that started them does, also if that one was killed."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` started, end as soon as its parent does.

    Nothing else would: workers that wait for their next task have no other sign, and the parent of one from a
    fork server is, for the operating system, that server. What is watched is a pipe whose other end only the
    parent holds (on Windows its handle), so that there is no waiting, and no mistaking of another process.
    """
    threading.Thread(target=_follow, name="end-with-parent", daemon=True).start()


def _follow() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # at once, whatever the other threads do: locks are given back by the system
