"""Imported last by the fork server of `streaming`: it then ends as soon as its last client has ended.

Without this it would first clean up all that it imported for its children. That takes a second, in which
a killed run would still seem to be running.
"""

import atexit
import os
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):  # and nowhere else
    atexit.register(os._exit, 0)
