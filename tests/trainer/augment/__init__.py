"""Tests of trainer/augment."""
