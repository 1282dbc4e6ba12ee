"""A server that a test started: its port, and what it answers."""

import socket
import subprocess
import time
import urllib.request


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port: int, server: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < deadline, f"the server does not answer on port {port}"
        time.sleep(0.2)


def answer(port: int, path: str) -> str:
    """What JupyterLab serves to who knows its token, which is "test"."""
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, headers={"Authorization": "token test"})
    return urllib.request.urlopen(request, timeout=30).read().decode()
