"""What runs the notebook from outside.

In: the notebook and its parameters. Out: a finished run with its report, or the reason why the notebook cannot run.
Only `python -m pmip` imports this package; the notebook takes the check of its parameters from it.
"""
