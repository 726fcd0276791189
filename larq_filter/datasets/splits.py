"""Which images of a set train, which choose, which are only tested.

    training     what `fit` learns from
    validation   what every choice is made on: searches, early stopping, comparing settings
    test         read once, after the last epoch, for the number that is reported

A set that names no validation images, as CIFAR-10 does, has them held out of its training images
here: always the same ones, whatever the seed of a run is. Rejected: to validate on the test images
in that case, as is often done. Every search has then seen them, and nothing is left to test with.
"""

import numpy as np

# Part of every run's config: 1 was validation on the test images where a set has no others.
SPLIT = 2

LEAST, MOST = 300, 50_000  # images held out
WHOLE_FILES = 20  # a streamed set of at least so many files has whole files held out


def held_out_size(size: int) -> int:
    """How many of `size` images are held out: a tenth, at least 300, at most 50,000 or half."""
    return min(max(size // 10, LEAST), MOST, size // 2)


def stratified(labels, count, split):
    """Two arrays of indices: what is left for training, and `count` held out, in fixed order.

    Each class gives its share. Where that can't be, as a class has a single image or there are
    more classes than images to hold out, the images are drawn without regard to their classes.

    Args:
        labels: int array (n,).
        count: images to hold out, in [1, n - 1].
        split: `sklearn.model_selection.train_test_split`.
    """
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    possible = sizes.min() > 1 and len(sizes) <= min(count, len(labels) - count)
    return split(
        np.arange(len(labels)),
        test_size=count,
        stratify=labels if possible else None,
        random_state=0,
    )


def by_files(records):
    """The records of a streamed set for training, and those held out, without reading a label.

    Of many files some are held out whole, evenly spaced, so that no epoch reads what it does not
    use; of a few the last part of each.

    Args:
        records: (paths, numbers of records to skip, numbers of records to read), by file.

    Returns:
        The same triple twice.
    """
    files, skipped, counts = (np.asarray(part) for part in records)
    total = int(counts.sum())
    wanted = held_out_size(total)
    if len(files) >= WHOLE_FILES:
        chosen = np.zeros(len(files), bool)
        number = max(1, round(wanted / (total / len(files))))
        chosen[np.linspace(0, len(files) - 1, number).round().astype(int)] = True
        return tuple(
            tuple(part[which].tolist() for part in (files, skipped, counts))
            for which in (~chosen, chosen)
        )
    # Cumulated, so that the parts add up to what is wanted.
    ends = np.cumsum(counts) * wanted // total
    tails = np.diff(ends, prepend=0)
    kept = counts - tails
    return _filled(files, skipped, kept), _filled(files, skipped + kept, tails)


def _filled(files, skipped, counts):
    """The triple without files of which nothing is read."""
    return tuple(part[counts > 0].tolist() for part in (files, skipped, counts))
