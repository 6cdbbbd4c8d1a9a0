"""The repository "Skin-Cancer-Classification-TL": small images, plain and pretrained networks."""
