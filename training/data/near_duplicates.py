"""One picture or spot under two lesion ids: copied, cropped, rescaled, mirrored, turned or taken again.

Such a pair across train and test leaks as one lesion on both sides does. Looked for in three steps:
coarse thumbnails name a few candidates for every image in each of the eight symmetries of the square;
each candidate is laid over the image at several scales and every shift (normalised
cross-correlation; Lewis, "Fast template matching", Vision Interface 1995); and the promising pairs
again at small angles, too, in all eight symmetries. What is correlated is the fine structure, local
mean and contrast taken out: most lesions are dark ovals on plain skin and resemble each other otherwise.

Ovals still correlate up to 0.72 in HAM10000, more than some second photographs of one spot. But they
do so in several symmetries, where one spot fits in one alone. So a pair counts by how far its best
symmetry is above the others (``MARGIN``), or by a correlation that only copies reach (``COPY``): a copy
of a round lesion fits in several symmetries, too. Looked at by eye, the pairs of HAM10000 above
``MARGIN`` show one spot, and hardly any below does; all of them agree in age, sex and site, where one
pair in 150 does by chance. Two lesions taken for one would cost nothing but that they stay on one side
of the split.
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
"""Side of the thumbnails, in pixels."""
MARGIN = 0.25
"""By how much the correlation in the best symmetry must exceed that in any other."""
SAME_PATIENT_MARGIN = 0.15
"""The same for lesions of equal age, sex and site."""
COPY = 0.93
"""The correlation that is enough by itself."""
_COARSE = 16  # side of the thumbnails that name the candidates
_CANDIDATES = (1, 2)  # for each image and symmetry: among all, and among patients with the same data
_WINDOW = 44  # side of the part that is laid over the other image: shifts of up to 10 pixels fit
_ROUGH = ((0.8, 0.89, 1.0, 1.12, 1.25), (-6, 0, 6))  # scales, and angles in degrees
_FINE = ((0.79, 0.84, 0.89, 0.94, 1.0, 1.06, 1.12, 1.19, 1.26), (-9, -6, -3, 0, 3, 6, 9))
# What a candidate must reach at the rough scales, and then a pair over the other symmetries there, to be
# looked at more closely: most of the work is to find that there is nothing.
_PROMISING = 0.36
_PROMISING_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two images of different lesions that show the same.

    Attributes:
        first, second: the images, in the order of ``rows``.
        similarity: normalised cross-correlation of their fine structure, 1 for the same picture.
        margin: by how much that exceeds the correlation in every other symmetry.
        mirrored: whether the second is a mirror image.
    """

    first: Row
    second: Row
    similarity: float
    margin: float
    mirrored: bool


class _Candidate(NamedTuple):
    """Image ``first``, put into one of the eight symmetries, may be image ``second``."""

    first: int
    second: int
    form: int


def near_duplicates(rows: Sequence[Row], thumbnails: np.ndarray) -> list[NearDuplicate]:
    """Pairs of images of different lesions that show the same, the surest first.

    Args:
        rows: the N images.
        thumbnails: uint8 ``[N, 64, 64]``, grey, the centre square of each.
    """
    lesions = np.unique([row.lesion_id for row in rows], return_inverse=True)[1]
    patients = np.unique([f"{r.age} {r.sex} {r.localization}" for r in rows], return_inverse=True)[1]
    images = thumbnails.astype(np.float32)
    candidates = _candidates(_coarse(images), lesions, patients)
    registration = _Registration(_fine_structure(images))
    by_first = [list(group) for _, group in groupby(candidates, key=lambda found: found.first)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rough = [score for scores in pool.map(registration.rough, by_first) for score in scores]
        promising = sorted(
            {found[:2] for found, score in zip(candidates, rough, strict=True) if score >= _PROMISING}
        )
        glances = pool.map(registration.glance, promising)
        remaining = [pair for pair, glance in zip(promising, glances, strict=True) if _hint(glance)]
        close = list(pool.map(registration.closely, remaining))
    pairs = []
    for (first, second), by_form in zip(remaining, close, strict=True):
        best, margin = by_form.max(), _margin(by_form)
        limit = SAME_PATIENT_MARGIN if patients[first] == patients[second] else MARGIN
        if best >= COPY or margin >= limit:
            mirrored = int(by_form.argmax()) >= 4
            pairs.append(NearDuplicate(rows[first], rows[second], float(best), margin, mirrored))
    return sorted(pairs, key=lambda pair: -pair.margin)


def _candidates(coarse: np.ndarray, lesions: np.ndarray, patients: np.ndarray) -> list[_Candidate]:
    """The images most like each one: among all, and among those of patients with the same data."""
    order = np.argsort(patients, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(patients[order])) + 1)
    found = set()
    for count, members in [(_CANDIDATES[0], np.arange(len(coarse))), *((_CANDIDATES[1], g) for g in groups)]:
        targets = coarse[members].reshape(len(members), -1).T
        for form in range(8):
            for chunk in np.array_split(members, -(-len(members) // 1024)):
                alike = _form(coarse[chunk], form).reshape(len(chunk), -1) @ targets
                alike[lesions[chunk][:, None] == lesions[members]] = 0
                for _ in range(count):
                    nearest = alike.argmax(axis=1)
                    lines = np.flatnonzero(alike.max(axis=1) > 0)
                    for first, second in zip(chunk[lines], members[nearest[lines]], strict=True):
                        found.add(_ordered(int(first), int(second), form))
                    alike[np.arange(len(chunk)), nearest] = 0
    return sorted(found)


def _ordered(first: int, second: int, form: int) -> _Candidate:
    """The candidate with the smaller index first."""
    return _Candidate(first, second, form) if first < second else _Candidate(second, first, _inverse(form))


class _Registration:
    """Finds the middle of one image in others, by the spectra of all."""

    def __init__(self, images: np.ndarray):
        self._images = images
        self._spectra = rfft2(images)
        padded = np.pad(images, ((0, 0), (1, 0), (1, 0))).astype(np.float64)
        total, power = (_window_sums(values.cumsum(1).cumsum(2)) for values in (padded, padded**2))
        spread = power - total**2 / _WINDOW**2
        # A window without structure is similar to nothing.
        self._norm = np.sqrt(np.where(spread > 1.0, spread, np.inf)).astype(np.float32)

    def rough(self, candidates: Sequence[_Candidate]) -> list[float]:
        """Correlation of each, at its best scale and shift; all have the same first image."""
        middle = self._middle(candidates[0].first, _ROUGH[0], (0,))
        spectra = {form: _spectrum(middle, form) for form in {found.form for found in candidates}}
        return self._correlate(
            np.stack([spectra[found.form] for found in candidates]), [found.second for found in candidates]
        )

    def glance(self, pair: tuple[int, int]) -> np.ndarray:
        """Correlation in each symmetry ``[8]`` at the best rough scale, angle and shift."""
        return self._by_form(pair[1], self._middle(pair[0], *_ROUGH))

    def closely(self, pair: tuple[int, int]) -> np.ndarray:
        """The same at fine scales and angles, whichever is laid over the other."""
        first, second = pair
        onto_second = self._by_form(second, self._middle(first, *_FINE))
        onto_first = self._by_form(first, self._middle(second, *_FINE))
        return np.asarray(np.maximum(onto_second, onto_first[[_inverse(form) for form in range(8)]]))

    def _by_form(self, second: int, middle: np.ndarray) -> np.ndarray:
        found = [self._correlate(_spectrum(middle, form)[None], [second])[0] for form in range(8)]
        return np.array(found)

    def _correlate(self, spectra: np.ndarray, others: list[int]) -> list[float]:
        """Highest correlation of each of the spectra ``[C, V, 64, 33]`` with each of the C others."""
        shifts = self._norm.shape[-1]
        correlation = irfft2(self._spectra[others][:, None] * spectra)[:, :, :shifts, :shifts]
        best: list[float] = (correlation / self._norm[others][:, None]).max(axis=(1, 2, 3)).tolist()
        return best

    def _middle(self, index: int, scales: Sequence[float], angles: Sequence[float]) -> np.ndarray:
        """The middle of an image, at unit norm, at every scale and angle ``[V, window, window]``."""
        variants = []
        for angle in np.deg2rad(angles):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for scale in scales:
                offset = (SIZE - 1) / 2 - turn @ np.full(2, (_WINDOW - 1) / 2) / scale
                variants.append(
                    affine_transform(
                        self._images[index], turn / scale, offset, (_WINDOW, _WINDOW), order=1, mode="nearest"
                    )
                )
        middle = np.stack(variants)
        middle -= middle.mean(axis=(1, 2), keepdims=True)
        return np.asarray(middle / (np.linalg.norm(middle, axis=(1, 2), keepdims=True) + 1e-6))


def _spectrum(middle: np.ndarray, form: int) -> np.ndarray:
    return np.asarray(rfft2(_form(middle, form), s=(SIZE, SIZE)).conj())


def _margin(by_form: np.ndarray) -> float:
    """How far the best symmetry is above the others."""
    second, best = np.sort(by_form)[-2:].tolist()
    return float(best - second)


def _hint(by_form: np.ndarray) -> bool:
    return bool(_margin(by_form) >= _PROMISING_MARGIN or by_form.max() >= COPY - 0.1)


def _coarse(images: np.ndarray) -> np.ndarray:
    """Images of unit norm ``[N, 16, 16]``, weighted towards their middle, without their shading."""
    step = SIZE // _COARSE
    small = images.reshape(len(images), _COARSE, step, _COARSE, step).mean(axis=(2, 4))
    small = small - _blur(small, 3.0)
    position = (np.arange(_COARSE) + 0.5) / _COARSE * 2 - 1
    weight = np.clip((1 - np.hypot(position[:, None], position)) * 4, 0, 1).astype(np.float32)
    small -= (small * weight).sum(axis=(1, 2), keepdims=True) / weight.sum()
    small *= np.sqrt(weight)
    return np.asarray(small / (np.linalg.norm(small, axis=(1, 2), keepdims=True) + 1e-6))


def _fine_structure(images: np.ndarray) -> np.ndarray:
    """Images less their local mean, over their local contrast; noise below 2 of 255 stays small."""
    detail = images - _blur(images, 2.0)
    return np.asarray(detail / np.sqrt(_blur(detail**2, 5.0) + 2.0**2))


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of ``[N, n, n]``, as two matrix products."""
    kernel = gaussian_filter1d(np.eye(images.shape[-1], dtype=np.float32), sigma, axis=0)
    return np.asarray(kernel @ images @ kernel.T)


def _window_sums(integral: np.ndarray) -> np.ndarray:
    """Sums over every window, from integral images ``[N, 65, 65]``."""
    w = _WINDOW
    return np.asarray(
        integral[:, w:, w:] - integral[:, :-w, w:] - integral[:, w:, :-w] + integral[:, :-w, :-w]
    )


def _form(images: np.ndarray, form: int) -> np.ndarray:
    """One of the eight symmetries of ``[N, n, n]``: 0 to 3 quarter turns, 4 to 7 mirrored after them."""
    turned = np.rot90(images, form % 4, axes=(1, 2))
    return turned[:, :, ::-1] if form >= 4 else turned


def _inverse(form: int) -> int:
    """The symmetry that undoes ``form``: a turn back; a mirror image undoes itself."""
    return form if form >= 4 else -form % 4
