"""Where versions of the model and training data live: an S3 bucket, or a folder with the same layout.

In: keys and bytes. Out: model ids, artifacts and files, or a `StorageError` that names the bucket and the key.
"""
