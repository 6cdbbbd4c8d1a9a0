"""A score of how much an image differs from the training images, from features that the model computes.

The score is the PCA residual of the members' pooled features: what is left of a picture's distance
from the mean when the directions in which training pictures differ are taken out (Wang et al., "ViM:
Out-of-Distribution with Virtual-logit Matching", CVPR 2022, eq. 5, without its logits). A picture
unlike the training data excites features in combinations that training pictures do not.

Chosen on the first model, by the area under the ROC curve of validation images against photographs,
drawings of lesions, screens of text, noise, plain colours, and dermatoscopic images inverted or with
red and blue swapped (mean over the seven kinds; in brackets the share found by the threshold that 1 %
of validation images pass): PCA residual 0.992 (0.85), with the members on their own scales 0.990
(0.76); the residual joined to the energy as ViM does 0.983 (0.85); Mahalanobis distance to the
nearest class in the same 64 dimensions (Lee et al., NeurIPS 2018) 0.893 (0.13); energy (Liu et al.,
NeurIPS 2020) 0.728 (0.09); one minus the largest probability 0.724 (0.02); distance to the nearest
class mean 0.635 (0.01). It finds what is plainly no dermatoscopic image, and not all of that:
pictures of one even texture without an object, such as gravel or a histological section, can pass.
Rare diagnoses are rare pictures too: of vascular lesions it marks one in seven.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.extmath import randomized_svd

METHOD = "PCA residual of pooled features"

_COMPONENTS = 64
"""Directions that count as usual: as above, 0.985 to 0.993 for 32 to 128, and few enough to add 0.7 MB."""

_LEAST_SPREAD = 0.01
"""Least standard deviation of a feature, as a share of its mean, that counts as a difference."""


@dataclass(frozen=True)
class OutOfDistribution:
    """The score's parameters, all float32; F features, C components.

    ``score = |z − basis (basisᵀ z)|²`` with ``z = (features − mean) · scale``: 1 is the distance from
    the mean of the average training image, of which a small part is left over for a usual picture.
    (Not as |z|² − |basisᵀ z|², where float32 would lose that small part.)

    Attributes:
        mean: ``[F]``, of the training features.
        scale: ``[F]``, the same for all features of a member.
        basis: ``[F, C]``, orthonormal columns: the principal components.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray

    @staticmethod
    def fit(features: np.ndarray, widths: Sequence[int] | None = None) -> "OutOfDistribution":
        """Fit to training images; the same features give the same parameters.

        At most half of the images and of the features become components, so that something is left.

        Args:
            features: float ``[N, F]``, the members' pooled features side by side.
            widths: number of features of each member, summing to F; each member then has the same
                share in the distance, whatever its features' scale. None: all features are one.

        Raises:
            ValueError: the widths do not sum to F.
        """
        count, total = features.shape
        widths = [total] if widths is None else widths
        if sum(widths) != total:
            raise ValueError(f"expected widths that sum to {total} features, got {list(widths)}")
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features - mean
        spread = (centred**2).mean(axis=0)
        starts = np.cumsum([0, *widths[:-1]])
        # Features that hardly differ from image to image, as those of a network not yet trained, must not be
        # blown up until their rounding is all that is seen.
        spread = np.maximum(spread, (_LEAST_SPREAD * mean) ** 2)
        of_member = np.add.reduceat(spread, starts) * len(widths)
        scale = np.repeat(1 / np.sqrt(np.where(of_member > 0, of_member, 1.0)), widths)
        components = min(_COMPONENTS, count // 2, total // 2)
        if components:
            # Not sklearn's PCA: it divides by the total variance, which is 0 where no feature ever changes.
            basis = randomized_svd(centred * scale, components, n_iter=7, random_state=0)[2].T
        else:
            basis = np.zeros((total, 1))
        return OutOfDistribution(*(array.astype(np.float32) for array in (mean, scale, basis)))

    def score(self, features: np.ndarray) -> np.ndarray:
        """The score ``[N]`` of pooled features ``[N, F]``: 0 at the mean, higher is stranger."""
        z = (features - self.mean) * self.scale
        left_over = z - (z @ self.basis) @ self.basis.T
        return np.asarray((left_over**2).sum(axis=1))

    def graph(self, tf: Any, features: Any) -> Any:
        """``score`` in TensorFlow, for the exported graph; ``tf`` is the module."""
        z = (features - self.mean) * self.scale
        inside = tf.matmul(z, tf.constant(self.basis))
        left_over = z - tf.matmul(inside, tf.constant(self.basis), transpose_b=True)
        return tf.reduce_sum(left_over * left_over, axis=1)
