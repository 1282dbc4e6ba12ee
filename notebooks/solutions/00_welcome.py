"""Solution of the exercise in 00_welcome.ipynb."""

from depl0kit.lab.exercises import check_macs


def macs(kernel, inputs, outputs, height, width):
    """Every output value, of height x width x outputs, is a sum of kernel x kernel x inputs products."""
    return kernel * kernel * inputs * outputs * height * width


share = macs(3, 12, 24, 8, 8) / macs(3, 24, 48, 8, 8)  # half of the inputs times half of the outputs: 1/4
check_macs(macs, share)
