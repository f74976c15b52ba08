"""Measures the Python package procession beside its peers, in one run; `README.md` says how to read it."""
