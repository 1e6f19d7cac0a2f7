"""What `make gpu` runs: stages with a time limit each, within a budget that they share."""
