"""The seven diagnostic classes of HAM10000.

Codes, names and order follow Tschandl et al., "The HAM10000 dataset", Sci. Data 5, 180161 (2018),
table 1. The malignant classes are those treated as a cancer or as its direct precursor: akiec (actinic
keratosis and intraepithelial carcinoma), bcc and mel. The API's malignancy probability is the sum of
their probabilities.

Training uses this list. The service uses the classes in the manifest of its bundle.
"""

from typing import NamedTuple


class Label(NamedTuple):
    """A diagnostic class: its ``dx`` code in the dataset, its display name, and whether it is malignant."""

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
