"""How the members' probabilities are combined, and how far the members disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.recipe import Recipe

TINY = 1e-12  # keeps ratios and logarithms finite where a probability underflows


@dataclass(frozen=True)
class Combination:
    """A rule from the members' probabilities ``[N, K_m]`` to the ensemble's ``[N, K]``.

    Attributes:
        kind: ``"mean"``: Σ_m w_m p_m. ``"vote"``: each member votes for its most probable class, and on
            a tie the first class wins; the winner gets a share of the probability, and the rest is
            divided as the mean says, because a bare vote knows no degrees of suspicion.
            ``"specialists"``: the first member answers; where its two most probable classes are those
            of a specialist, their mass is divided anew as the specialist says.
        weights: of the members in the mean, summing to 1.
        specialties: class indices of each member; empty for a member that answers all of them.
        smoothing: that rest, below a half, so that the winner stays the most probable class.
    """

    kind: Literal["mean", "vote", "specialists"]
    weights: tuple[float, ...]
    specialties: tuple[tuple[int, ...], ...]
    smoothing: float = 0.0

    def __call__(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """The ensemble's probabilities ``[N, K]`` from the members', each ``[N, K_m]``."""
        if self.kind != "specialists":
            mean = np.asarray(sum(w * p for w, p in zip(self.weights, members, strict=True)))
            if self.kind == "mean":
                return mean
            one_hot = np.eye(mean.shape[1])
            votes = np.sum([one_hot[p.argmax(axis=1)] for p in members], axis=0)
            return np.asarray((1 - self.smoothing) * one_hot[votes.argmax(axis=1)] + self.smoothing * mean)
        answer = members[0].copy()
        top = np.sort(np.argsort(members[0], axis=1)[:, -2:], axis=1)
        for pair, specialist in zip(self.specialties[1:], members[1:], strict=True):
            rows = (top == np.sort(pair)).all(axis=1)
            mass = members[0][np.ix_(rows, pair)].sum(axis=1, keepdims=True)
            answer[np.ix_(rows, pair)] = mass * specialist[rows]
        return answer

    def disagreement(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """How far apart the members are, ``[N]`` in [0, 1].

        The weighted mean over the members of the total variation distance ½ Σ_c |p_m,c - p_c| to
        their weighted mean p; 0 where only one member answers all classes.
        """
        full = [index for index, pair in enumerate(self.specialties) if not pair]
        weights = np.array([self.weights[index] for index in full])
        weights = weights / weights.sum()
        stacked = np.stack([members[index] for index in full])
        mean = np.einsum("m,mnk->nk", weights, stacked)
        return np.asarray(weights @ (0.5 * np.abs(stacked - mean).sum(axis=2)))


def starting_combination(recipe: Recipe, codes: Sequence[str]) -> Combination:
    """The combination as ``recipe`` writes it, before anything is fitted."""
    count = len(recipe.members)
    if recipe.combination == "specialists":
        weights = (1.0,) + (0.0,) * (count - 1)
    elif recipe.combination == "mean" and recipe.weighting == "fixed":
        weights = tuple(member.weight for member in recipe.members)
    else:
        weights = (1 / count,) * count
    specialties = tuple(tuple(codes.index(code) for code in member.classes) for member in recipe.members)
    return Combination(recipe.combination, weights, specialties)
