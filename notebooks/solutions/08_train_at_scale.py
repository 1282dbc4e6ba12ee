"""Solution of the exercise in 08_train_at_scale.ipynb."""

from depl0kit.lab.exercises import check_recipe

check_recipe("""
extends = "resnet56-cifar10"
description = "ResNet-56 on CIFAR-10 in a tenth of the time, at twice the price"
posterior = "forward"
lam_per_weight = 1e-6

[train]
epochs = 30
milestones = [6, 12, 18, 24]
""")
