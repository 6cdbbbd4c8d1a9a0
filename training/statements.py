"""What every bundle says of its data, its purpose and its limits."""

CITATION = (
    'Tschandl P., Rosendahl C., Kittler H. "The HAM10000 dataset, a large collection of multi-source '
    'dermatoscopic images of common pigmented skin lesions." Sci. Data 5, 180161 (2018), '
    "doi:10.7910/DVN/DBW86T"
)
LICENCE = "CC BY-NC 4.0"
LICENCE_TEXT = (
    "This model was trained on HAM10000, which is published under CC BY-NC 4.0\n"
    "(https://creativecommons.org/licenses/by-nc/4.0/). The model is licensed under the same terms:\n"
    "non-commercial use, with attribution to the authors of the data set:\n\n"
    f"{CITATION}\n"
    "Images by the ViDIR Group, Department of Dermatology, Medical University of Vienna.\n"
)
INTENDED_USE = (
    "Research and education on dermatoscopic images of pigmented skin lesions. Not a medical device: "
    "not as sole criterion, nor to confirm or exclude a diagnosis."
)
LIMITS = (
    "Only the classes of its data: anything else is still forced into one of them, and the warning of an "
    "image unlike the training data catches only some of it.",
    "Trained on dermatoscopic images from two centres (Vienna and Queensland); clinical or phone photographs "
    "without a dermatoscope are outside its training data.",
    "Skin tone is not labelled in HAM10000, so fairness across skin tones was not measured; the data comes "
    "mostly from light skin, and such models are known to fail more often on melanoma in dark skin.",
    "Probabilities are calibrated, and prediction sets cover, at the prevalence of the training data, which "
    "is not that of a clinic.",
    "Figures were measured on held-out lesions of the same data set; expect lower ones elsewhere.",
    "The heatmap shows where evidence for a class lies, relative to itself; it is no probability and no "
    "segmentation.",
)
