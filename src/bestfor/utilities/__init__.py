"""Metrics: what is truly cared about, measured for each candidate."""
