#!/bin/sh
# make_venv.sh FOLDER [PYTHON]: make a virtual environment with PYTHON, or with the first Python >= 3.11
# on the PATH that runs (a pyenv shim may exist and fail) and can make one.
set -eu
folder=$1
chosen=${2:-}

if "$folder/bin/python" -c 'import pip' 2>/dev/null; then exit 0; fi

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
version='import sys; print("%d.%d" % sys.version_info[:2])'
no_venv=
for python in ${chosen:-python3.12 python3.11 python3}; do
    "$python" -c "$new_enough" 2>/dev/null || continue
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "Making $folder with $python ($("$python" --version))"
        exec "$python" -m venv --clear "$folder"
    fi
    no_venv=$("$python" -c "$version")
done

if [ -n "$no_venv" ]; then
    echo "Python $no_venv cannot make virtual environments: its venv module is missing." >&2
    echo "On Debian or Ubuntu: sudo apt install python$no_venv-venv" >&2
elif [ -n "$chosen" ]; then
    found=$("$chosen" --version 2>&1) || found="it does not run"
    echo "PYTHON=$chosen cannot be used: depl0kit needs Python 3.11 or newer ($found)." >&2
else
    echo "No Python 3.11 or newer was found (tried python3.12, python3.11, python3)." >&2
    echo "On Debian or Ubuntu: sudo apt install python3 python3-venv; or name one: make lab PYTHON=/path/to/python" >&2
fi
exit 1
