"""All methods that a sweep can run: what each one does, in a line, and where it comes from."""

ABOUT: dict[str, tuple[str, str]] = {  # name -> (what it does, source)
    # posteriors
    "mean_field": ("an independent gate on every channel, with a price", "L0-HC, Louizos et al. 2018"),
    "forward": ("a generator makes the log-alphas of each group from those before", "Dep-L0, Li & Ji 2021"),
    "backward": ("a generator makes the log-alphas of each group from those after", "Dep-L0, Li & Ji 2021"),
    "autoregressive": ("the generator reads the drawn gates of the group before", "this package"),
    "arm": ("gates of 0 and 1, whose gradient takes a second forward pass", "L0-ARM, Li & Ji 2019"),
    # nothing is removed, or all channels alike
    "dense": ("the whole network", ""),
    "random": ("random channels, the same share of every group", ""),
    "small_dense": ("a narrow network from scratch", "Liu et al. 2019"),
    "small_dense_longer": ("the same, trained for the MACs of the whole network", ""),
    # a score after training
    "l1_uniform": ("the largest filters by L1 norm, the same share of every group", "Li et al. 2017"),
    "l1_global": ("the largest filters, relative to their layer, by one threshold", "after Li et al. 2017"),
    "fpgm": ("the filters that are farthest from the others of their layer", "He et al. 2019"),
    "taylor": ("the channels whose gates have the largest squared gradients", "Molchanov et al. 2019"),
    # a score before training
    "snip": ("the channels whose gates have the largest gradients before training", "SNIP, Lee et al. 2019"),
    # a penalty in training
    "slimming": ("an L1 penalty on the scales of batch norms", "Liu et al. 2017"),
    "halo": ("a penalty with a learnt shrinkage for each channel", "HALO, Seto et al. 2021"),
    "group_norm": ("a decay that is stronger for channels with small norms", "DepGraph, Fang et al. 2023"),
    "growing_reg": ("channels are chosen early, and a growing decay shrinks them", "GReg, Wang et al. 2021"),
    "fade_out": ("channels are chosen in turns and fade to exactly 0", "after OTOv2, Chen et al. 2023"),
    # channels that come back
    "grow_prune": ("parts of the network are whole in turns, the others pruned", "GaP, Ma et al. 2022"),
    "chex": ("pruned often, with fewer and fewer channels coming back", "CHEX, Hou et al. 2022"),
    # other layers
    "low_rank": ("convolutions in two, by singular values of their weights", "e.g. Vodrahalli et al. 2022"),
    # channels chosen for every image
    "fbs": ("for every image the channels with the largest saliency", "FBS, Gao et al. 2019"),
    "manidp": ("fewer channels for easy images; like images choose alike", "ManiDP, Tang et al. 2021"),
    "fbs_static": ("the channels that FBS opens most often, for all images", "after FBS"),
    "manidp_static": ("the channels that ManiDP opens most often, for all images", "after ManiDP"),
}  # fmt: skip
