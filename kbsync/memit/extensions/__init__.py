"""What kbsync adds to MEMIT: groups, wordings, preserved keys, norms behind the MLP, explaining, calibration."""
