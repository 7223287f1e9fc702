"""A version of the model as data.

In: the bytes of model.pkl and metadata.json. Out: a scorer for comments, or the reason why the model is refused.
"""
