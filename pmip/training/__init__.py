"""What the notebook calls, from the training data to a published version.

In: comment files and the notebook's parameters. Out: a fitted model with its metrics.
Only the notebook, `python -m pmip` and `pmip.runner` import this package.
"""
