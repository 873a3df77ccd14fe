"""Distillation objectives: one method, one file, one paper."""

from stkd_lightning.losses.at import ATLoss, attention_transfer
from stkd_lightning.losses.auxiliary import AuxiliaryCrossEntropyLoss
from stkd_lightning.losses.base import Features, Loss, Terms, check_logits, full_precision, require_teacher
from stkd_lightning.losses.cat_kd import CATKDLoss, class_activation, class_attention_transfer
from stkd_lightning.losses.cckd import CCKDLoss, correlation_congruence
from stkd_lightning.losses.crd import CRDLoss, contrastive_representation
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss, mixed_cross_entropy
from stkd_lightning.losses.csd import CSDLoss, category_similarity, pooled_category_similarity
from stkd_lightning.losses.ctkd import CTKDLoss
from stkd_lightning.losses.cwd import CWDFeatureLoss, CWDLoss, channel_wise
from stkd_lightning.losses.dist import DISTLoss, inter_class, intra_class
from stkd_lightning.losses.dkd import DKDLoss, decoupled
from stkd_lightning.losses.feature_loss import FeatureLoss, PairwiseLoss
from stkd_lightning.losses.fitnet import FitNetLoss, hint
from stkd_lightning.losses.functional import standardized
from stkd_lightning.losses.ifvd import IFVDLoss, intra_class_variation
from stkd_lightning.losses.iusp import IUSPLoss, intra_utterance_similarity
from stkd_lightning.losses.kd import KDLoss, softened_kl
from stkd_lightning.losses.mlkd import MLKDLoss, batch_correlation, class_correlation
from stkd_lightning.losses.nkd import NKDLoss, normalized_kd
from stkd_lightning.losses.nst import NSTLoss, neuron_selectivity
from stkd_lightning.losses.pixel_kd import PixelKDLoss, pixel_wise
from stkd_lightning.losses.pkt import PKTLoss, probabilistic_transfer
from stkd_lightning.losses.psd import PSDLoss, all_pairs_similarity, pixel_similarity
from stkd_lightning.losses.reviewkd import ReviewKDLoss, hierarchical_context
from stkd_lightning.losses.rkd import RKDLoss, relational
from stkd_lightning.losses.simkd import SimKDLoss
from stkd_lightning.losses.skd import SKDLoss, pair_wise
from stkd_lightning.losses.sp import SPLoss, similarity_preserving
from stkd_lightning.losses.spirit import RepresentationLoss
from stkd_lightning.losses.stkd import STKDLoss, divergence_parts, similarity_transfer
from stkd_lightning.losses.vid import VIDLoss, variational_information
from stkd_lightning.losses.weighted_sum import WeightedSum
from stkd_lightning.losses.wttm import WTTMLoss, transformed_matching

__all__ = [
    "ATLoss",
    "AuxiliaryCrossEntropyLoss",
    "CATKDLoss",
    "CCKDLoss",
    "CRDLoss",
    "CSDLoss",
    "CTKDLoss",
    "CWDFeatureLoss",
    "CWDLoss",
    "CrossEntropyLoss",
    "DISTLoss",
    "DKDLoss",
    "FeatureLoss",
    "Features",
    "FitNetLoss",
    "IFVDLoss",
    "IUSPLoss",
    "KDLoss",
    "Loss",
    "MLKDLoss",
    "NKDLoss",
    "NSTLoss",
    "PKTLoss",
    "PSDLoss",
    "PairwiseLoss",
    "PixelKDLoss",
    "RKDLoss",
    "RepresentationLoss",
    "ReviewKDLoss",
    "SKDLoss",
    "SPLoss",
    "STKDLoss",
    "SimKDLoss",
    "Terms",
    "VIDLoss",
    "WTTMLoss",
    "WeightedSum",
    "all_pairs_similarity",
    "attention_transfer",
    "batch_correlation",
    "category_similarity",
    "channel_wise",
    "check_logits",
    "class_activation",
    "class_attention_transfer",
    "class_correlation",
    "contrastive_representation",
    "correlation_congruence",
    "decoupled",
    "divergence_parts",
    "full_precision",
    "hierarchical_context",
    "hint",
    "inter_class",
    "intra_class",
    "intra_class_variation",
    "intra_utterance_similarity",
    "mixed_cross_entropy",
    "neuron_selectivity",
    "normalized_kd",
    "pair_wise",
    "pixel_similarity",
    "pixel_wise",
    "pooled_category_similarity",
    "probabilistic_transfer",
    "relational",
    "require_teacher",
    "similarity_preserving",
    "similarity_transfer",
    "softened_kl",
    "standardized",
    "transformed_matching",
    "variational_information",
]
