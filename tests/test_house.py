"""The rooms of the package: which may import which, and that there is no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import depl0kit as dk

PACKAGE = Path(dk.__file__).parent
# from left to right; those that stand together do not import each other
ROOMS = (
    *(("support",), ("channels",), ("data", "networks", "gates"), ("training",), ("comparison",)),
    *(("plots",), ("lab", "cli")),
)
PLACE = {room: place for place, rooms in enumerate(ROOMS) for room in rooms}


def modules() -> dict[str, Path]:
    """By dotted name; a package by its own."""
    files = {path.relative_to(PACKAGE.parent).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for parts, path in files.items()}


MODULES = modules()


def imported(name: str) -> set[str]:
    """Modules of the package that `name` imports anywhere, also in a function or for its type checker."""
    path, found = MODULES[name], set()
    package = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found |= {module if module in MODULES else base for module in inside}
    return found & set(MODULES)


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


IMPORTS = {name: imported(name) for name in MODULES}


def test_all_code_is_in_a_room():
    loose = {name for name in MODULES if room(name) not in PLACE}
    assert loose == {"depl0kit", "depl0kit.__main__"}
    assert all(f"depl0kit.{name}" in MODULES for name in PLACE)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room(name) in PLACE))
def test_a_room_imports_only_from_its_left(name):
    for other in IMPORTS[name]:
        assert room(other) in PLACE, f"{name} imports {other}, which is in no room"
        assert room(other) == room(name) or PLACE[room(other)] < PLACE[room(name)], f"{name} imports {other}"


def test_there_is_no_circle():
    inner = {n: {m for m in IMPORTS[n] if not n.startswith(f"{m}.")} for n in MODULES}
    order = list(TopologicalSorter(inner).static_order())  # raises CycleError with the circle
    assert set(order) == set(MODULES)


def test_the_root_shows_few_names():
    assert len(dk.__all__) <= 36 and all(hasattr(dk, name) for name in dk.__all__)


@pytest.mark.parametrize("name", PLACE)
def test_a_room_says_what_it_is_and_names_its_lesson(name):
    text = ast.get_docstring(ast.parse(MODULES[f"depl0kit.{name}"].read_text()))
    assert text
    assert "lesson" in text or name in ("support", "plots", "lab")


def test_only_the_lab_imports_jupyter():
    for name, path in MODULES.items():
        nodes = [
            n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom | ast.Import)
        ]
        texts = " ".join(ast.unparse(node) for node in nodes)
        found = [word for word in ("ipywidgets", "anywidget", "traitlets", "IPython") if word in texts]
        assert room(name) == "lab" or not found, f"{name} imports {found}"


# ---- other systems

WINDOWS_LACKS = {  # module: names; None: the whole module
    **dict.fromkeys(["fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"]),
    "os": {
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fdatasync", "fork"),
        *("getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice"),
        *("pread", "pwrite", "sched_getaffinity", "sched_setaffinity", "setpgid", "setsid", "statvfs"),
        *("sync", "sysconf", "uname", "wait", "wait3", "wait4"),
    },
    "signal": {
        *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP"),
        *("SIGUSR1", "SIGUSR2", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"),
    },
}


def lacking(node: ast.AST) -> set[str]:
    """What Windows lacks of what one node of the code names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if WINDOWS_LACKS.get(alias.name, ()) is None}
    if isinstance(node, ast.ImportFrom) and node.module in WINDOWS_LACKS:
        module, names = node.module, {alias.name for alias in node.names}
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module, names = node.value.id, {node.attr}
    else:
        return set()
    lacks = WINDOWS_LACKS.get(module, ())
    return {f"{module}.{name}" for name in names if lacks is None or name in lacks}


def posix_only(code: str) -> set[str]:
    """What Windows lacks, and is used without `if hasattr(module, "name")` around it."""
    nodes, safe = list(ast.walk(ast.parse(code))), set()
    for guard in (node for node in nodes if isinstance(node, ast.If | ast.IfExp)):
        body = guard.body if isinstance(guard, ast.If) else [guard.body]
        asked = ast.unparse(guard.test)
        safe |= {
            (node, name)
            for node in (inner for part in body for inner in ast.walk(part))
            for name in lacking(node)
            if "hasattr({}, {!r})".format(*name.rpartition(".")[::2]) in asked
        }
    return {name for node in nodes for name in lacking(node) if (node, name) not in safe}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os, fcntl, pwd", {"fcntl", "pwd"}),
        ("from resource import getrusage", {"resource.getrusage"}),
        ("from signal import SIGHUP, SIGKILL, SIGTERM", {"signal.SIGHUP", "signal.SIGKILL"}),
        ("def end(pid):\n    os.kill(pid, signal.SIGKILL)", {"signal.SIGKILL"}),
        ("os.setsid() if hasattr(os, 'fork') else os.fork()", {"os.setsid", "os.fork"}),
        ("n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1", set()),
        ("if x and hasattr(os, 'nice'):\n    os.nice(3)", set()),
        ("os.kill(pid, signal.SIGTERM)", set()),
    ],
)
def test_what_only_posix_has_is_seen(code, found):
    assert posix_only(code) == found


@pytest.mark.parametrize("name", MODULES)
def test_no_module_needs_what_windows_lacks(name):
    code = MODULES[name].read_text(encoding="utf-8")
    assert posix_only(code) == set()
    assert room(name) == "support" or "ctypes" not in code  # C libraries differ between systems
