"""Which images form a batch: explicit triplets, or P classes with K images each."""

import keras
import numpy as np


def number_classes(labels):
    """Number the classes 0 … C − 1, as losses with proxies want them, and as every backend can hold them.

    Args:
        labels: integers or text, (N,) or (N, 1). To give several sets the same numbers, join them first.

    Returns:
        The numbers, int64 (N,), and the classes (C,) in ascending order: `classes[numbers]` are the labels again.

    Raises:
        ValueError: labels of another type or shape. Floats may have merged large numbers already.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        raise ValueError(
            f"labels must be integers or text, (N,) or (N, 1), not {labels.dtype} {labels.shape}."
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), classes


class TripletGenerator:
    """Draws explicit triplets at random: two images of one class and one image of another.

    Args:
        seed: of the random draws; `None` draws differently each time.
    """

    def __init__(self, seed=None):
        self.seed = seed

    def flow(self, images, labels, batch_size=32):
        """An endless stream of batches for `TripletNet.model.fit`, which is to leave it as it is: `shuffle=False`.

        Args:
            images: array (N, height, width, channels).
            labels: integers (N,) or (N, 1); classes with a single image serve as negatives only.
            batch_size: B, triplets in a batch.

        Returns:
            A generator of `((anchors, positives, negatives), targets)`: three arrays (B, height, width, channels) of
            the images' dtype, and float32 zeros (B,), since a triplet needs no target.

        Raises:
            ValueError: no triplet can be drawn, or the arguments do not fit together.
        """
        labels = check_labels(images, labels)
        _check_array(images)
        _check_positive_integer("batch_size", batch_size)
        by_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
        if len(by_class) < 2 or all(len(members) < 2 for members in by_class.values()):
            raise ValueError(
                "A triplet needs two images of one class and one of another: give at least two classes, "
                "one of them with two images."
            )
        return self._batches(images, labels, by_class, batch_size)

    def _batches(self, images, labels, by_class, batch_size):
        rng = np.random.default_rng(self.seed)
        has_partner = np.isin(labels, [label for label, members in by_class.items() if len(members) >= 2])
        candidates = np.flatnonzero(has_partner)
        while True:
            anchors = rng.choice(candidates, batch_size)
            positives = [_draw(rng, by_class[labels[i]], lambda j, i=i: j != i) for i in anchors]
            negatives = [_draw(rng, len(labels), lambda j, i=i: labels[j] != labels[i]) for i in anchors]
            yield (images[anchors], images[positives], images[negatives]), np.zeros(batch_size, "float32")


def _draw(rng, pool, is_allowed, tries=100):
    """Draw from `pool` (an array, or a number n for 0 … n − 1) until the draw is allowed.

    Where only few of the pool are allowed they are looked up after some tries: every one stays as likely as another.
    """
    for _ in range(tries):
        choice = rng.choice(pool) if isinstance(pool, np.ndarray) else rng.integers(pool)
        if is_allowed(choice):
            return choice
    indices = pool if isinstance(pool, np.ndarray) else np.arange(pool)
    return rng.choice(indices[is_allowed(indices)])


NO_WORKERS = (
    "BalancedBatches draws in one place, so {} is refused: worker processes would draw the same batches again, threads "
    "would spoil their order. Leave it out: drawing takes a fraction of a millisecond. If reading pictures takes "
    "longer, read them once, into an array."
)


class BalancedBatches(keras.utils.PyDataset):
    """Batches of P classes with K images each, so that every batch is full of triplets.

    In every batch the classes are drawn at random, and in every class the images: without replacement until the class
    is used up, then it is shuffled anew.

    It draws in one place, and refuses Keras's worker processes and threads: each process would draw the same batches
    again, and threads would spoil the order that `seed` fixes. Drawing takes a fraction of a millisecond; what takes
    long is reading pictures, so read them once, into an array, if they fit into memory.

    Args:
        images: array (N, height, width, channels). For what memory cannot hold, `helpers.pictures.PictureFiles`, or
            `np.load(path, mmap_mode="r")`.
        labels: integers (N,) or (N, 1).
        classes_per_batch: P.
        images_per_class: K.
        batches: batches in an epoch; by default as many as it takes to draw N images.
        augment: function (images, rng) -> images, applied to every batch; `None` leaves them as they are.
        seed: of the random draws.

    Each item is a pair: images (P·K, height, width, channels) in the images' dtype, and int labels (P·K,).

    Raises:
        ValueError: fewer than P classes, a class with fewer than K images, workers, labels that the backend cannot hold
            (JAX has 32 bits), or arguments that do not fit together.

    Source: Hermans, Beyer & Leibe, 2017 (arXiv 1703.07737), "PK batches".
    """

    def __init__(
        self,
        images,
        labels,
        classes_per_batch=10,
        images_per_class=12,
        batches=None,
        augment=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.workers = self.workers  # through the setters below, which refuse them
        self.use_multiprocessing = self.use_multiprocessing
        labels = check_labels(images, labels)
        _check_array(images)
        if (keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(labels)) != labels).any():
            raise ValueError(
                f"The {keras.backend.backend()} backend would cut these labels to 32 bits. Number the classes from 0: "
                "`labels, classes = number_classes(labels)`."
            )
        for name, value in (("classes_per_batch", classes_per_batch), ("images_per_class", images_per_class)):
            _check_positive_integer(name, value)
        if batches is None:
            batches = max(1, len(labels) // (classes_per_batch * images_per_class))
        _check_positive_integer("batches", batches)
        by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if len(by_class) < classes_per_batch:
            raise ValueError(
                f"A batch of {classes_per_batch} classes needs as many; there are {len(by_class)}."
            )
        smallest = min(len(members) for members in by_class)
        if smallest < images_per_class:
            raise ValueError(
                f"images_per_class is {images_per_class}, but the smallest class has {smallest}. "
                "Lower images_per_class, or leave the small classes out."
            )
        self.images, self.labels = images, labels
        self.classes_per_batch, self.images_per_class = classes_per_batch, images_per_class
        self.augment = augment
        self.rng = np.random.default_rng(seed)
        self._by_class = by_class
        self._queues = [self.rng.permutation(members) for members in by_class]
        self._batches = batches

    @keras.utils.PyDataset.workers.setter
    def workers(self, value):
        if value > 1:
            raise ValueError(NO_WORKERS.format(f"workers={value}"))
        self._workers = value

    @keras.utils.PyDataset.use_multiprocessing.setter
    def use_multiprocessing(self, value):
        if value:
            raise ValueError(NO_WORKERS.format(f"use_multiprocessing={value}"))
        self._use_multiprocessing = value

    def __len__(self):
        return self._batches

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        classes = self.rng.choice(len(self._by_class), self.classes_per_batch, replace=False)
        chosen = np.concatenate([self._take(c) for c in classes])  # (P·K,)
        images = self.images[chosen]
        if self.augment is not None:
            images = self.augment(images, self.rng)
        return images, self.labels[chosen]

    def get_state(self):
        """Where the draws stand: a dictionary that JSON can hold, for `set_state`."""
        return {"rng": self.rng.bit_generator.state, "queues": [queue.tolist() for queue in self._queues]}

    def set_state(self, state):
        """Go on drawing where `get_state` was called, on these batches or on others of the same images and labels.

        Raises:
            ValueError: the state is of other images or labels.
        """
        queues = [np.array(queue, dtype=np.intp) for queue in state["queues"]]
        fits = len(queues) == len(self._by_class) and all(
            np.isin(queue, members).all() for queue, members in zip(queues, self._by_class, strict=True)
        )
        if not fits:
            raise ValueError("This state was taken from other images or labels: start again without it.")
        self.rng.bit_generator.state = state["rng"]
        self._queues = queues

    def _take(self, c):
        if len(self._queues[c]) < self.images_per_class:
            self._queues[c] = self.rng.permutation(self._by_class[c])
        taken, self._queues[c] = np.split(self._queues[c], [self.images_per_class])
        return taken


def flip_and_shift(images, rng, pixels=2):
    """Mirror half of the images left to right, and move each one by up to `pixels` in each direction.

    Args:
        images: array (B, height, width, channels).
        rng: a `numpy.random.Generator`.
        pixels: the largest shift; 0 only mirrors. What moves in from outside is 0.

    Returns:
        A new array of the same shape and dtype.
    """
    mirrored = rng.random(len(images)) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return shift(images, rng, pixels) if pixels > 0 else images


def shift(images, rng, pixels=2, fill=0):
    """Move each image by up to `pixels` in each direction.

    Args:
        images: array (B, height, width, channels).
        rng: a `numpy.random.Generator`.
        pixels: the largest shift.
        fill: what moves in from outside, 255 for pictures on white paper.

    Returns:
        A new array of the same shape and dtype.
    """
    height, width = images.shape[1:3]
    around = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    padded = np.pad(images, around, constant_values=fill)
    moves = rng.integers(0, 2 * pixels + 1, (len(images), 2))
    return np.stack(
        [
            image[down : down + height, right : right + width]
            for image, (down, right) in zip(padded, moves, strict=True)
        ]
    )


def vary_colours(images, rng, strength=0.3):
    """Give each image other inks on the same white paper: stronger or weaker, each of the three channels by itself.

    What a channel takes away from white, 255 − value, is multiplied by a random factor from 1 − strength to
    1 + strength, one for each image and channel.

    Args:
        images: uint8 array (B, height, width, channels).
        rng: a `numpy.random.Generator`.
        strength: 0 to 1.

    Returns:
        A new uint8 array of the same shape.
    """
    factors = rng.uniform(1 - strength, 1 + strength, (len(images), 1, 1, images.shape[-1]))
    ink = (255 - images) * factors.astype(np.float32)
    return (255 - np.minimum(ink, 255)).astype(np.uint8)


def erase(images, rng, sides=(4, 12)):
    """Fill a rectangle at a random place with noise, in a random half of the images.

    Args:
        images: array (B, height, width, channels), values 0–255.
        rng: a `numpy.random.Generator`.
        sides: the shortest and the longest side of a rectangle, in pixels.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        ValueError: the longest side does not fit into the image.

    Source: Zhong et al., Random Erasing Data Augmentation, 2017 (arXiv 1708.04896).
    """
    images = images.copy()
    shortest, longest = sides
    height, width, channels = images.shape[1:]
    if longest > min(height, width):
        raise ValueError(f"sides {sides} do not fit into images of {height} × {width} pixels.")
    for i in np.flatnonzero(rng.random(len(images)) < 0.5):
        tall, wide = rng.integers(shortest, longest + 1, 2)
        top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        noise = rng.integers(0, 256, (tall, wide, channels))
        images[i, top : top + tall, left : left + wide] = noise
    return images


def check_labels(images, labels):
    """Labels (N,) or (N, 1) of N images as an integer array (N,); ValueError if they are not that."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers (N,) or (N, 1), not {labels.dtype} {labels.shape}.")
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels: give one label for each image.")
    return labels


def _check_array(images):
    """ValueError if a batch cannot be taken from the images: their numbers come in any order, some of them twice."""
    try:
        taken = images[np.array([len(images) - 1, 0, 0])]
    except IndexError:
        return  # there are none, which the caller says in its own words
    except (TypeError, ValueError, NotImplementedError):  # a list; or HDF5, which wants the numbers in order
        taken = None
    if not isinstance(taken, np.ndarray) or len(taken) != 3:
        raise ValueError(
            f"images must act like a NumPy array, which {type(images).__name__} does not: a batch takes images from "
            "anywhere in it, and in any order. `np.asarray(images)` reads them all; np.load(path, mmap_mode='r') "
            "leaves them on the disk."
        )


def _check_positive_integer(name, value):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer ≥ 1, not {value!r}.")
