"""Evaluations of a frozen encoder: one file each."""
