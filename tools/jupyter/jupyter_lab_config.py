"""JupyterLab as `make lab` opens it: one clean tab, no questions, nothing fetched from the internet.

Read through JUPYTER_CONFIG_PATH, so that the user's own configuration is neither changed nor hidden.
"""

import os
import shutil
from pathlib import Path

import zmq
from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

c = get_config()  # noqa: F821  (Jupyter defines it)

checkout = Path(__file__).resolve().parents[2]
workspaces = checkout / "build" / "lab" / "workspaces"
shutil.rmtree(workspaces, ignore_errors=True)  # no tabs of last time

c.ServerApp.root_dir = str(checkout)
c.ServerApp.allow_root = hasattr(os, "geteuid") and os.geteuid() == 0
c.ServerApp.use_redirect_file = False  # a browser that is a snap, or outside WSL, cannot read that file
c.Application.log_level = "WARN"  # the address is printed all the same
c.LabApp.default_url = "/lab/tree/notebooks/00_welcome.ipynb"
c.LabApp.workspaces_dir = str(workspaces)
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
