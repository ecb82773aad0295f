"""What the dense network knows, handed to the masked or slim one: its embedding of the same augmented picture.

Distillation from a teacher's outputs is Hinton, Vinyals, Dean 2015 (arXiv:1503.02531); re-identification searches
with the embedding, so it is the embedding that is taught here, by its direction, which is what the search uses.
The relational form teaches distances between the batch's pictures instead, so that the student may turn its space:
distance-wise RKD of Park, Kim, Lu, Cho, CVPR 2019 (arXiv:1904.05068).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from toolkit.errors import SettingsError
from toolkit.models.network import ReidNet
from toolkit.patrol.settings import DistillSettings
from toolkit.reid.losses import pairwise_distances


def distillation(student: Tensor, teacher: Tensor, settings: DistillSettings) -> Tensor:
    """Scalar, not weighted: 0 where the student agrees with the teacher.

    Args:
        student: (N, D), the embedding behind the neck, with its gradient.
        teacher: (N, E), without; the relational form takes another dimension than the student's.
        settings: the form.
    """
    with torch.autocast(student.device.type, enabled=False):
        own, taught = student.float(), teacher.float()
        if settings.form == "embedding":
            return (1 - F.cosine_similarity(own, taught)).mean()
        return F.smooth_l1_loss(_relative_distances(own), _relative_distances(taught))


def check_teacher(net: ReidNet, teacher: ReidNet, settings: DistillSettings) -> None:
    """Whether the two embeddings can be compared.

    Raises:
        SettingsError: they have different dimensions.
    """
    own, taught = net.classifier.in_features, teacher.classifier.in_features
    if settings.form == "embedding" and own != taught:
        raise SettingsError(
            f"the network's embedding has {own} dimensions and the dense one's {taught}, so they cannot be "
            "compared; take distill.form: relational"
        )


def _relative_distances(features: Tensor) -> Tensor:
    """(N * (N - 1),): distances between different rows, relative to their mean."""
    apart = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    distances = pairwise_distances(features)[apart]
    return distances / distances.mean().clamp_min(1e-12)
