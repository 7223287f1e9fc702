"""One training run, from the training data to the report.

In: comment files and the notebook's parameters. Out: a fitted model with its metrics, and the report of the run.
Only the notebook and `python -m pmip` import this package.
"""
