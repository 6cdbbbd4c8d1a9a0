"""A small HAM10000 look-alike in the published layout, drawn on the spot."""

import csv
from pathlib import Path

import numpy as np

from models.labels import HAM10000_LABELS
from tests.synthetic import draw_lesion
from training.data.dataset import COLUMNS, METADATA_NAME


def write_dataset(folder: Path, *, lesions: int = 8, seed: int = 0, telling_age: bool = False) -> Path:
    """``lesions`` lesions of each class, every third photographed twice, over two image folders.

    With ``telling_age``, each class has an age of its own, and sexes and sites vary. Otherwise metadata says
    nothing of the class.
    """
    rng = np.random.default_rng(seed)
    folders = [folder / f"HAM10000_images_part_{n}" for n in (1, 2)]
    for image_folder in folders:
        image_folder.mkdir(parents=True)
    number = 0
    with (folder / METADATA_NAME).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for index, label in enumerate(HAM10000_LABELS):
            for lesion in range(lesions):
                for _ in range(2 if lesion % 3 == 0 else 1):
                    image_id = f"SYNTH_{number:07d}"
                    picture = draw_lesion(rng, code=label.code, width=120, height=90)
                    picture.save(folders[number % 2] / f"{image_id}.jpg", quality=90)
                    age = ("", "0", "55.0")[number % 3]
                    sex, site = "male", "back"
                    if telling_age:
                        age = str(10 * index + 5)
                        sex, site = ("male", "female")[lesion % 2], ("back", "face", "hand")[lesion % 3]
                    row = (f"LES_{label.code}_{lesion}", image_id, label.code, "histo", age, sex, site)
                    writer.writerow(row)
                    number += 1
    return folder
