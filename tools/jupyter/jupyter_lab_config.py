"""JupyterLab as `make lab` and `depl0kit lab` open it: one clean tab, no questions, no internet.

Read through JUPYTER_CONFIG_PATH, so that the user's own configuration is neither changed nor hidden. The
folder in which it starts is served: a clone, or a copy of the lessons.
"""

import atexit
import os
import secrets
import shutil
import tempfile
import time
import webbrowser
from pathlib import Path

import zmq
from ipykernel.ipkernel import IPythonKernel
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

c = get_config()  # noqa: F821  (Jupyter defines it)

root = Path.cwd()
lessons = "" if (root / "00_welcome.ipynb").is_file() else "notebooks/"  # as in a clone
workspaces = tempfile.mkdtemp(prefix="depl0kit-lab-")  # a new one: no tabs of last time
atexit.register(shutil.rmtree, workspaces, ignore_errors=True)

c.ServerApp.root_dir = str(root)
c.ServerApp.allow_root = hasattr(os, "geteuid") and os.geteuid() == 0
c.ServerApp.use_redirect_file = False  # a browser that is a snap, or outside WSL, cannot read that file
c.Application.log_level = "WARN"  # the address is printed all the same
c.LabApp.default_url = f"/lab/tree/{lessons}00_welcome.ipynb"
c.LabApp.workspaces_dir = workspaces
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
if zmq.has("curve"):  # else every kernel warns that others on this machine could listen
    c.MappingKernelManager.transport_encryption = "auto"


class Lessons(AsyncLargeFileManager):
    """Tells the browser what the kernel of a notebook will say of itself, down to the version of Python.

    The files leave that out, as it differs between machines. JupyterLab would add it, and call a notebook
    modified that was only opened.
    """

    async def get(self, *arguments, **options):
        model = await super().get(*arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            if metadata.get("kernelspec", {}).get("name") == "python3":
                metadata["language_info"] = IPythonKernel.language_info
        return model


c.ServerApp.contents_manager_class = Lessons


class OneTimeCode(PasswordIdentityProvider):
    """Lets in who brings the code that the browser was opened with: once, and soon.

    Everybody on this machine can read the command line of a browser. Jupyter's token would let them in for as
    long as the server runs; this code is worth nothing once the browser has used it.
    """

    SECONDS = 120  # for a browser that starts slowly
    code, until = "", 0.0  # of the class: there is one server

    @classmethod
    def new(cls):
        cls.code, cls.until = secrets.token_urlsafe(), time.monotonic() + cls.SECONDS
        return cls.code

    async def get_user_token(self, handler):
        code = OneTimeCode.code
        if code and secrets.compare_digest((self.get_token(handler) or "").encode(), code.encode()):
            OneTimeCode.code = ""
            return self.generate_anonymous_user(handler) if time.monotonic() < OneTimeCode.until else None
        return await super().get_user_token(handler)


class Browser(webbrowser.BaseBrowser):
    """The user's own browser, opened with a code in the place of the token."""

    def open(self, url, new=0, autoraise=True):
        address, _, token = url.partition("?token=")
        if token and token == OneTimeCode.code:  # webbrowser has no other browser than this one
            return False
        return webbrowser.open(f"{address}?token={OneTimeCode.new()}" if token else url, new, autoraise)


webbrowser.register("one-time code", None, Browser())
c.ServerApp.browser = "one-time code"
c.ServerApp.identity_provider_class = OneTimeCode
