"""The deck "Skin cancer classification": MobileNetV2 and EfficientNet with focal loss, and their mean."""
