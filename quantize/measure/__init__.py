"""Figures of one file on one machine: quality, speed, memory, problems solved."""
