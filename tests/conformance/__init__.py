"""Runs CPython's own `multiprocessing` tests against procession.

How to use it is in README.md; the parts, in the order in which a run meets them:

1. `interpreters` finds the Pythons and says what their installs lack.
2. `overlay` builds a throw-away prefix in which the tests name our package; `rewrite` is the
   text part of it.
3. `worker/` is copied into the overlay and runs there: lists test classes, runs one class,
   inspects the package.
4. `session` starts a worker per class, watches its limits and ends everything it started;
   `processes` is what it needs for that, also if the runner itself is killed.
5. `suites` says which test modules and classes belong to a start method, and runs a plan of them.
6. `record` keeps outcomes as data: `baselines/` of the stdlib, `results/` of ours.
7. `score` compares the two under `exceptions.toml` and prints the difference.
8. `triage` runs a few tests quickly, with everything they print.
"""
