"""The report "Skin cancer MNIST: HAM10000, dermoscopy image analysis": benign or malignant."""
