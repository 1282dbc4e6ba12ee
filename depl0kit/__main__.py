"""`python -m depl0kit`: see `cli`."""

from .cli import run

if __name__ == "__main__":
    run()
