"""JupyterLab as `make lab` opens it: one clean tab, no questions, nothing fetched from the internet.

Read through JUPYTER_CONFIG_PATH, so that the user's own configuration is neither changed nor hidden.
"""

import os
import shutil
from pathlib import Path

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
