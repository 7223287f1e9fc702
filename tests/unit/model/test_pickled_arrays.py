"""Arrays in pickles: only those that numpy and joblib write, and never more than the file holds."""

import pickle
import tracemalloc

import numpy as np
import pytest
from joblib.numpy_pickle import NumpyArrayWrapper

from pmip.errors import ArtifactError
from pmip.model.unpickling import loads


def test_a_forged_dtype_cannot_turn_bytes_into_pointers() -> None:
    """The flags of a dtype are numpy's own, whatever the pickle says."""
    forged = pickle.dumps(np.dtype("f8"), 2).replace(b"K\x00t", b"K\x3ft")
    assert pickle.loads(forged).hasobject
    assert not loads(forged).hasobject
    with pytest.raises(ArtifactError, match="dtype 'O8'"):
        loads(pickle.dumps(np.dtype("f8,O")))


@pytest.mark.parametrize("shape", [(2**30,), (2**10, 2**20), (2**40, 2**40), (-1, -(2**30))])
@pytest.mark.parametrize("dtype", ["i1", "f8", "S1000"])
def test_an_array_is_no_larger_than_the_file(shape: tuple[int, ...], dtype: str) -> None:
    """Its place would be reserved before the first byte is read."""
    claim = pickle.dumps(NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype(dtype)), 2)[:-1]
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="an array that is larger than the file"):
        loads(claim + b"few bytes.")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
