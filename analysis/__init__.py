"""What the runs mean: runs table, law forms, fits with intervals, plots and report; needs no torch."""
