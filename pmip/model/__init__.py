"""A version of the model as data.

In: the bytes of model.pkl and metadata.json. Out: a scorer that answers comments, or the reason why there is none.
"""
