"""From trained members to calibrated answers: fitted on training and validation images alone."""
