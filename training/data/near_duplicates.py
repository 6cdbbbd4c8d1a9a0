"""Finds images of one skin spot under two lesion ids: copied, cropped, scaled, mirrored, rotated or retaken.

Such a pair leaks if one image is in train and the other in test. The search has three steps:

1. Coarse thumbnails select a few candidates for each image in each of the eight symmetries of the square.
2. Each candidate is registered to the image by normalised cross-correlation at all shifts and several scales
   (Lewis, "Fast template matching", Vision Interface 1995).
3. Promising pairs are registered at more scales and at small angles, in all eight symmetries.

Only the fine structure is correlated, without local mean and contrast. Most lesions are dark ovals on plain
skin, so the images themselves correlate in any case.

Even then, different ovals of HAM10000 correlate up to 0.72, more than some second photographs of one spot.
Ovals do so in several symmetries, while two photographs of one spot match in one only. A pair is therefore a
near-duplicate if its best symmetry exceeds all others by ``MARGIN``, or if its correlation reaches ``COPY``,
because a copy of a round lesion matches in several symmetries. Visual inspection of HAM10000 confirmed nearly
all pairs above ``MARGIN`` and hardly any below. The confirmed pairs agree in age, sex and site, as 1 of 150
random pairs does. The cost of a false positive is small: the two lesions stay in the same part of the split.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import affine_transform, gaussian_filter1d

from training.data.dataset import Row

SIZE = 64
"""Side of the thumbnails in pixels."""
MARGIN = 0.25
"""How far the correlation in the best symmetry must exceed that in any other."""
SAME_PATIENT_MARGIN = 0.15
"""The margin for two lesions with equal age, sex and site."""
COPY = 0.93
"""A correlation that suffices whatever the margin."""
_COARSE = 16  # side of the thumbnails that select candidates
_CANDIDATES = (1, 2)  # per image and symmetry: from all images, and from those with equal age, sex and site
_WINDOW = 44  # side of the template, so shifts of up to 10 pixels fit
_ROUGH = ((0.8, 0.89, 1.0, 1.12, 1.25), (-6, 0, 6))  # scales, and angles in degrees
_FINE = ((0.79, 0.84, 0.89, 0.94, 1.0, 1.06, 1.12, 1.19, 1.26), (-9, -6, -3, 0, 3, 6, 9))
# Thresholds at the rough scales, for the correlation of a candidate and for the margin of a pair. They save
# most of the time, because most candidates show different spots.
_PROMISING = 0.36
_PROMISING_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two images with different lesion ids that show the same spot.

    Attributes:
        first, second: the images, in the order of ``rows``.
        similarity: normalised cross-correlation of their fine structure, 1 for identical pictures.
        margin: how far ``similarity`` exceeds the correlation in any other symmetry.
        mirrored: whether the second image is mirrored.
    """

    first: Row
    second: Row
    similarity: float
    margin: float
    mirrored: bool


class _Candidate(NamedTuple):
    """Image ``first``, transformed by ``symmetry``, may show the same as image ``second``."""

    first: int
    second: int
    symmetry: int


def near_duplicates(rows: Sequence[Row], thumbnails: np.ndarray) -> list[NearDuplicate]:
    """Find pairs of images with different lesion ids that show the same spot.

    Args:
        rows: the N images.
        thumbnails: uint8 ``[N, 64, 64]``, the grey centre square of each image.

    Returns:
        The pairs, by decreasing margin.
    """
    lesions = np.unique([row.lesion_id for row in rows], return_inverse=True)[1]
    patients = np.unique([f"{r.age} {r.sex} {r.localization}" for r in rows], return_inverse=True)[1]
    images = thumbnails.astype(np.float32)
    candidates = _candidates(_coarse(images), lesions, patients)
    registration = _Registration(_fine_structure(images))
    by_first = [list(group) for _, group in groupby(candidates, key=lambda candidate: candidate.first)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = [score for group in pool.map(registration.scores, by_first) for score in group]
        promising = sorted(
            {found[:2] for found, score in zip(candidates, scores, strict=True) if score >= _PROMISING}
        )
        rough = pool.map(registration.rough_by_symmetry, promising)
        remaining = [pair for pair, found in zip(promising, rough, strict=True) if _is_promising(found)]
        fine = list(pool.map(registration.fine_by_symmetry, remaining))
    pairs = []
    for (first, second), by_symmetry in zip(remaining, fine, strict=True):
        best, margin = by_symmetry.max(), _margin(by_symmetry)
        limit = SAME_PATIENT_MARGIN if patients[first] == patients[second] else MARGIN
        if best >= COPY or margin >= limit:
            mirrored = int(by_symmetry.argmax()) >= 4
            pairs.append(NearDuplicate(rows[first], rows[second], float(best), margin, mirrored))
    return sorted(pairs, key=lambda pair: -pair.margin)


def _candidates(coarse: np.ndarray, lesions: np.ndarray, patients: np.ndarray) -> list[_Candidate]:
    """Return the most similar images of each image, from all and from those with equal patient data."""
    order = np.argsort(patients, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(patients[order])) + 1)
    found = set()
    for count, members in [(_CANDIDATES[0], np.arange(len(coarse))), *((_CANDIDATES[1], g) for g in groups)]:
        targets = coarse[members].reshape(len(members), -1).T
        for symmetry in range(8):
            for chunk in np.array_split(members, -(-len(members) // 1024)):
                similarity = _transform(coarse[chunk], symmetry).reshape(len(chunk), -1) @ targets
                similarity[lesions[chunk][:, None] == lesions[members]] = 0
                for _ in range(count):
                    nearest = similarity.argmax(axis=1)
                    lines = np.flatnonzero(similarity.max(axis=1) > 0)
                    for first, second in zip(chunk[lines], members[nearest[lines]], strict=True):
                        found.add(_ordered(int(first), int(second), symmetry))
                    similarity[np.arange(len(chunk)), nearest] = 0
    return sorted(found)


def _ordered(first: int, second: int, symmetry: int) -> _Candidate:
    """Return the candidate with the smaller index first."""
    if first < second:
        return _Candidate(first, second, symmetry)
    return _Candidate(second, first, _inverse(symmetry))


class _Registration:
    """Correlates the centre of one image with other images, by fast Fourier transforms."""

    def __init__(self, images: np.ndarray):
        self._images = images
        self._spectra = rfft2(images)
        padded = np.pad(images, ((0, 0), (1, 0), (1, 0))).astype(np.float64)
        total, power = (_window_sums(values.cumsum(1).cumsum(2)) for values in (padded, padded**2))
        spread = power - total**2 / _WINDOW**2
        # A window without structure gets the correlation 0.
        self._norm = np.sqrt(np.where(spread > 1.0, spread, np.inf)).astype(np.float32)

    def scores(self, candidates: Sequence[_Candidate]) -> list[float]:
        """Return each candidate's correlation at its best rough scale and shift.

        All candidates have the same first image.
        """
        templates = self._templates(candidates[0].first, _ROUGH[0], (0,))
        spectra = {symmetry: _spectrum(templates, symmetry) for symmetry in {c.symmetry for c in candidates}}
        return self._correlate(
            np.stack([spectra[c.symmetry] for c in candidates]), [c.second for c in candidates]
        )

    def rough_by_symmetry(self, pair: tuple[int, int]) -> np.ndarray:
        """Return the correlation in each symmetry, ``[8]``, at the best rough scale, angle and shift."""
        return self._by_symmetry(pair[1], self._templates(pair[0], *_ROUGH))

    def fine_by_symmetry(self, pair: tuple[int, int]) -> np.ndarray:
        """Return the correlation in each symmetry, ``[8]``, at the best fine scale, angle and shift.

        Each image serves as the template once; the higher correlation counts.
        """
        first, second = pair
        onto_second = self._by_symmetry(second, self._templates(first, *_FINE))
        onto_first = self._by_symmetry(first, self._templates(second, *_FINE))
        return np.asarray(np.maximum(onto_second, onto_first[[_inverse(symmetry) for symmetry in range(8)]]))

    def _by_symmetry(self, second: int, templates: np.ndarray) -> np.ndarray:
        return np.array(
            [self._correlate(_spectrum(templates, symmetry)[None], [second])[0] for symmetry in range(8)]
        )

    def _correlate(self, spectra: np.ndarray, others: list[int]) -> list[float]:
        """Return the highest correlation of each of C spectra, ``[C, V, 64, 33]``, with its other image."""
        shifts = self._norm.shape[-1]
        correlation = irfft2(self._spectra[others][:, None] * spectra)[:, :, :shifts, :shifts]
        best: list[float] = (correlation / self._norm[others][:, None]).max(axis=(1, 2, 3)).tolist()
        return best

    def _templates(self, index: int, scales: Sequence[float], angles: Sequence[float]) -> np.ndarray:
        """Return an image's centre at every scale and angle, ``[V, 44, 44]``, each with unit norm."""
        variants = []
        for angle in np.deg2rad(angles):
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for scale in scales:
                matrix = rotation / scale
                offset = (SIZE - 1) / 2 - rotation @ np.full(2, (_WINDOW - 1) / 2) / scale
                variants.append(
                    affine_transform(
                        self._images[index], matrix, offset, (_WINDOW, _WINDOW), order=1, mode="nearest"
                    )
                )
        templates = np.stack(variants)
        templates -= templates.mean(axis=(1, 2), keepdims=True)
        return np.asarray(templates / (np.linalg.norm(templates, axis=(1, 2), keepdims=True) + 1e-6))


def _spectrum(templates: np.ndarray, symmetry: int) -> np.ndarray:
    return np.asarray(rfft2(_transform(templates, symmetry), s=(SIZE, SIZE)).conj())


def _margin(by_symmetry: np.ndarray) -> float:
    """Return how far the best symmetry exceeds the second best."""
    second, best = np.sort(by_symmetry)[-2:].tolist()
    return float(best - second)


def _is_promising(by_symmetry: np.ndarray) -> bool:
    return bool(_margin(by_symmetry) >= _PROMISING_MARGIN or by_symmetry.max() >= COPY - 0.1)


def _coarse(images: np.ndarray) -> np.ndarray:
    """Scale images down to ``[N, 16, 16]`` with unit norm, without shading, weighted towards the centre."""
    step = SIZE // _COARSE
    small = images.reshape(len(images), _COARSE, step, _COARSE, step).mean(axis=(2, 4))
    small = small - _blur(small, 3.0)
    position = (np.arange(_COARSE) + 0.5) / _COARSE * 2 - 1
    weight = np.clip((1 - np.hypot(position[:, None], position)) * 4, 0, 1).astype(np.float32)
    small -= (small * weight).sum(axis=(1, 2), keepdims=True) / weight.sum()
    small *= np.sqrt(weight)
    return np.asarray(small / (np.linalg.norm(small, axis=(1, 2), keepdims=True) + 1e-6))


def _fine_structure(images: np.ndarray) -> np.ndarray:
    """Subtract the local mean and divide by the local contrast; noise below 2 of 255 stays small."""
    detail = images - _blur(images, 2.0)
    return np.asarray(detail / np.sqrt(_blur(detail**2, 5.0) + 2.0**2))


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Apply a Gaussian blur to ``[N, n, n]``, as two matrix products."""
    kernel = gaussian_filter1d(np.eye(images.shape[-1], dtype=np.float32), sigma, axis=0)
    return np.asarray(kernel @ images @ kernel.T)


def _window_sums(integral: np.ndarray) -> np.ndarray:
    """Return the sums over all windows, from integral images ``[N, 65, 65]``."""
    w = _WINDOW
    return np.asarray(
        integral[:, w:, w:] - integral[:, :-w, w:] - integral[:, w:, :-w] + integral[:, :-w, :-w]
    )


def _transform(images: np.ndarray, symmetry: int) -> np.ndarray:
    """Rotate ``[N, n, n]`` by ``symmetry % 4`` quarter turns, and mirror them if ``symmetry`` is 4 to 7."""
    rotated = np.rot90(images, symmetry % 4, axes=(1, 2))
    return rotated[:, :, ::-1] if symmetry >= 4 else rotated


def _inverse(symmetry: int) -> int:
    """Return the symmetry that undoes ``symmetry``; each mirrored one undoes itself."""
    return symmetry if symmetry >= 4 else -symmetry % 4
