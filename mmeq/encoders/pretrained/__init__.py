"""Models of transformers, timm and torchvision as encoders."""

from mmeq.encoders.pretrained.encoder import PretrainedEncoder as PretrainedEncoder
