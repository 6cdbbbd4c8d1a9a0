"""The report "Skin lesions classification: an efficient multi-class …": large networks, grey, a ViT."""
