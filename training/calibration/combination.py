"""Combines the members' probabilities, and measures their disagreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.recipe import Recipe

TINY = 1e-12  # keeps ratios and logarithms finite if a probability is 0


@dataclass(frozen=True)
class Combination:
    """Combines the members' probabilities ``[N, K_m]`` to the ensemble's ``[N, K]``.

    - ``"mean"``: the weighted mean, Σ_m w_m p_m.
    - ``"vote"``: each member votes for its most probable class; on a tie the first class wins. The winner
      gets the probability 1 − ``smoothing``, and ``smoothing`` is distributed over the classes in
      proportion to the mean. Without it, all probabilities would be 0 or 1.
    - ``"specialists"``: the first member's probabilities, of which a specialist distributes the sum of its
      two classes between them. It does so if they are the first member's two most probable classes, and
      whenever the first member's label is the first of them. Of several such specialists, the one with the
      largest sum decides.

    Attributes:
        kind: one of the above.
        weights: weights of the members in the mean; they sum to 1.
        specialties: class indices of each specialist; empty for a member that predicts all classes.
        smoothing: see ``"vote"``; below 0.5, so that the winner stays the most probable class.
    """

    kind: Literal["mean", "vote", "specialists"]
    weights: tuple[float, ...]
    specialties: tuple[tuple[int, ...], ...]
    smoothing: float = 0.0

    def __call__(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Return the ensemble's probabilities ``[N, K]`` from those of the members, each ``[N, K_m]``."""
        if self.kind != "specialists":
            mean = np.asarray(sum(w * p for w, p in zip(self.weights, members, strict=True)))
            if self.kind == "mean":
                return mean
            one_hot = np.eye(mean.shape[1])
            votes = np.sum([one_hot[p.argmax(axis=1)] for p in members], axis=0)
            return np.asarray((1 - self.smoothing) * one_hot[votes.argmax(axis=1)] + self.smoothing * mean)
        base, pairs = members[0], self.specialties[1:]
        combined = base.copy()
        second, label = np.argsort(base, axis=1)[:, -2:].T
        mass = np.stack([base[:, pair].sum(axis=1) for pair in pairs], axis=1)
        asked = np.stack([(label == a) | ((label == b) & (second == a)) for a, b in pairs], axis=1)
        chosen = np.where(asked, mass, -1.0).argmax(axis=1)
        for index, (pair, specialist) in enumerate(zip(pairs, members[1:], strict=True)):
            rows = asked[:, index] & (chosen == index)
            combined[np.ix_(rows, pair)] = mass[rows, index, None] * specialist[rows]
        return combined

    def disagreement(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Return the disagreement of the members, ``[N]`` in [0, 1].

        It is the weighted mean, over the members m, of the total variation distance ½ Σ_c |p_m,c − p_c| to
        their weighted mean p. Specialists do not count.
        """
        full = [index for index, pair in enumerate(self.specialties) if not pair]
        weights = np.array([self.weights[index] for index in full])
        weights = weights / weights.sum()
        stacked = np.stack([members[index] for index in full])
        mean = np.einsum("m,mnk->nk", weights, stacked)
        return np.asarray(weights @ (0.5 * np.abs(stacked - mean).sum(axis=2)))


def initial_combination(recipe: Recipe, codes: Sequence[str]) -> Combination:
    """Return the combination that ``recipe`` states, before weights and smoothing are fitted."""
    count = len(recipe.members)
    if recipe.combination == "specialists":
        weights = (1.0,) + (0.0,) * (count - 1)
    elif recipe.combination == "mean" and recipe.weighting == "fixed":
        weights = tuple(member.weight for member in recipe.members)
    else:
        weights = (1 / count,) * count
    specialties = tuple(tuple(codes.index(code) for code in member.classes) for member in recipe.members)
    return Combination(recipe.combination, weights, specialties)
