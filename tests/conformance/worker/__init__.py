"""The part of the runner that is copied into an overlay, as the package `_conformance`."""
