"""Solution of the exercise in 04_when_independence_fails.ipynb."""

import math

from depl0kit.lab.exercises import check_coordinate


def coordinate(others, gain, price):
    """Opening the gate adds the gain if all the others are open, and always costs its price."""
    log_odds = gain * math.prod(others) - price
    return 1 / (1 + math.exp(-log_odds))


check_coordinate(coordinate)
