"""Encoders that everybody knows, to race SUAN against: DIN, BST, HSTU, RankMixer, DCNv2 and SIM.

Not here: what all encoders get and give (`models.encoder`), SUAN itself (`models.suan`).
"""

from models.baselines.bst import BST, BSTBlock, BSTOptions
from models.baselines.dcnv2 import CrossNet, DCNv2, DCNv2Options, DeepNet
from models.baselines.din import DIN, ActivationUnit, Dice, DINOptions, pool_history
from models.baselines.hstu import HSTU, HSTULayer, HSTUOptions
from models.baselines.ranking_layer import RankingLayer
from models.baselines.rankmixer import RankMixer, RankMixerBlock, RankMixerOptions, TokenProjection
from models.baselines.sim import SIM, SIMOptions

__all__ = [
    "BST",
    "DIN",
    "HSTU",
    "SIM",
    "ActivationUnit",
    "BSTBlock",
    "BSTOptions",
    "CrossNet",
    "DCNv2",
    "DCNv2Options",
    "DINOptions",
    "DeepNet",
    "Dice",
    "HSTULayer",
    "HSTUOptions",
    "RankMixer",
    "RankMixerBlock",
    "RankMixerOptions",
    "RankingLayer",
    "SIMOptions",
    "TokenProjection",
    "pool_history",
]
