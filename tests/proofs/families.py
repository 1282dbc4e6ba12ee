"""Which networks of timm are tried: a small one of each family."""

import timm
import torch
from torch import nn

CHEAP = [  # `make test` has these at 64 pixels
    *("ghostnet_050", "lcnet_035", "mobilenetv3_small_050", "resnet10t", "regnetx_002"),
    *("tinynet_e", "skresnet18", "dla46_c", "convnext_atto", "gernet_s"),
]
TIMM = [
    *CHEAP,
    # mobile networks
    *("ghostnetv2_100", "repghostnet_050", "mobilenetv2_035", "mobilenetv4_conv_small", "mnasnet_small"),
    *("semnasnet_050", "spnasnet_100", "fbnetc_100", "hardcorenas_a", "mixnet_s", "rexnet_100"),
    *("efficientnet_b0", "tf_efficientnet_b0", "tf_mobilenetv3_small_minimal_100", "mobileone_s0"),
    *("starnet_s050", "fasternet_t0", "repvit_m0_9"),
    # residual networks and their relatives
    *("seresnet18", "resnetv2_18", "resnetblur18", "seresnext26ts", "ecaresnet26t", "resnest14d"),
    *("res2net50_14w_8s", "res2next50", "regnety_002", "nf_resnet26", "nf_regnet_b0", "eca_nfnet_l0"),
    *("bat_resnext26ts", "lambda_resnet26t", "halonet26t", "botnet26t_256", "repvgg_a0"),
    # dense, branched and high-resolution networks
    *("dpn48b", "dpn68", "densenet121", "hrnet_w18_small", "inception_v3", "inception_v4"),
    *("inception_resnet_v2", "xception41", "selecsls42", "vovnet39a", "ese_vovnet19b_dw", "hgnetv2_b0"),
    *("cspresnet50", "cs3darknet_s", "cspdarknet53", "darknet17", "vgg11_bn"),
    # with patches, attention or large kernels
    *("convnextv2_atto", "inception_next_atto", "convmixer_768_32", "poolformer_s12", "edgenext_xx_small"),
    *("mobilevit_xxs", "levit_128s", "coatnet_nano_rw_224", "visformer_tiny", "pvt_v2_b0", "fastvit_t8"),
    *("efficientvit_b0", "efficientformer_l1", "mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224"),
    *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
]

SIDES = {"bat_resnext26ts": 256, "halonet26t": 256}  # pixels; others that know one size say so themselves


def timm_network(name: str, side: int) -> tuple[nn.Module, int]:
    """A network of 10 classes, and the pixels of a side of its images: `side`, or what it is made for."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10)
    config = model.default_cfg
    return model, SIDES.get(name, config["input_size"][1] if config.get("fixed_input_size") else side)
