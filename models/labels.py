"""The seven diagnostic classes of HAM10000, stated once.

Codes, names and order follow Tschandl et al., "The HAM10000 dataset", Sci. Data 5, 180161 (2018),
table 1. ``malignant`` groups what needs treatment as a cancer or its direct precursor: akiec
(actinic keratosis and intraepithelial carcinoma), bcc and mel, as the API contract defines
the malignancy probability.

Training reads this list; the service does not: it reads the classes of the bundle it serves.
"""

from typing import NamedTuple


class Label(NamedTuple):
    """One diagnostic class: the ``dx`` code of the dataset, a name for people, and its group."""

    code: str
    name: str
    malignant: bool


HAM10000_LABELS: tuple[Label, ...] = (
    Label("akiec", "Actinic keratosis / Bowen's disease", True),
    Label("bcc", "Basal cell carcinoma", True),
    Label("bkl", "Benign keratosis-like lesion", False),
    Label("df", "Dermatofibroma", False),
    Label("mel", "Melanoma", True),
    Label("nv", "Melanocytic nevus", False),
    Label("vasc", "Vascular lesion", False),
)
