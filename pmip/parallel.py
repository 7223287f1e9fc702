"""Training side: many fits at once, on all cores of this machine, with a progress bar."""

from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm


def each(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], description: str) -> list[Any]:
    """Return what the function returns for each task, in the order of the tasks."""
    results = []
    with tqdm(total=len(tasks), desc=description, unit="fit", mininterval=0) as bar:
        for result in Parallel(n_jobs=-1, return_as="generator")(delayed(function)(*task) for task in tasks):
            results.append(result)
            bar.update()
    # Workers that lived on would know the package as it was, whatever is edited between two cells of a notebook.
    get_reusable_executor().shutdown()
    return results
