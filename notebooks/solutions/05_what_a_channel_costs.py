"""Solution of the exercise in 05_what_a_channel_costs.ipynb."""

from depl0kit.lab.exercises import check_channel_macs


def channel_macs(kernel, inputs, outputs, height, width):
    """Written from every input, and read for every output, at every position."""
    return kernel**2 * height * width * (inputs + outputs)


check_channel_macs(channel_macs)
