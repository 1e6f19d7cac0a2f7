"""Runs `make gpu`: stages with a time limit each, within a shared budget."""
