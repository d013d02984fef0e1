import json
import time
from collections import Counter
from itertools import islice, product

import h5py
import numpy as np
import pytest

from helpers.sampling import BalancedBatches, TripletGenerator, erase, flip_and_shift, number_classes


def numbered_images(count, dtype="uint8"):
    """Images (count, 4, 3, 1) whose pixels all hold the image's own index."""
    return np.broadcast_to(np.arange(count, dtype=dtype)[:, None, None, None], (count, 4, 3, 1)).copy()


def indices_of(images):
    return images[:, 0, 0, 0].astype(int)


LABELS = np.array([3, 3, 3, 3, 5, 5, 5, 8, 8, 9])  # class 9 has a single image


def draw_triplets(labels=LABELS, batches=20, batch_size=16, seed=0):
    stream = TripletGenerator(seed).flow(numbered_images(len(labels)), labels, batch_size)
    drawn = [[indices_of(part) for part in inputs] for inputs, _ in islice(stream, batches)]
    return np.concatenate(drawn, axis=1)  # (3, batches · batch_size)


# TripletGenerator


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_positive_is_another_image_of_the_class_and_negative_of_another_class(shape):
    anchors, positives, negatives = draw_triplets(LABELS.reshape(shape))
    assert (LABELS[anchors] == LABELS[positives]).all()
    assert (anchors != positives).all()
    assert (LABELS[anchors] != LABELS[negatives]).all()


def test_every_image_serves_and_a_singleton_only_as_negative():
    anchors, positives, negatives = draw_triplets()
    assert set(anchors) == set(positives) == set(range(9))
    assert set(negatives) == set(range(10))


def test_anchors_are_drawn_evenly():
    anchors, _, _ = draw_triplets(np.repeat([0, 1], [30, 10]), batches=50, batch_size=80)
    counts = np.bincount(anchors, minlength=40)
    assert counts.min() > 60
    assert counts.max() < 150  # 100 each is expected


def test_two_classes_of_which_one_has_a_single_image_are_enough():
    anchors, positives, negatives = draw_triplets(np.array([0, 0, 1]), batches=1, batch_size=6)
    assert set(anchors) | set(positives) == {0, 1}
    assert set(negatives) == {2}


def test_triplet_batch_has_the_images_shape_and_dtype():
    images = np.zeros((6, 5, 4, 3), "float16")
    inputs, targets = next(TripletGenerator().flow(images, [0, 0, 0, 1, 1, 1], batch_size=7))
    assert isinstance(inputs, tuple)
    assert [(part.shape, part.dtype) for part in inputs] == [((7, 5, 4, 3), np.dtype("float16"))] * 3
    assert (targets.shape, targets.dtype) == ((7,), np.dtype("float32"))
    assert (targets == 0).all()


def test_default_triplet_batch_holds_32():
    inputs, _ = next(TripletGenerator().flow(numbered_images(4), [0, 0, 1, 1]))
    assert len(inputs[0]) == 32


def test_seed_repeats_the_triplets():
    assert (draw_triplets(seed=4) == draw_triplets(seed=4)).all()
    assert (draw_triplets(seed=4) != draw_triplets(seed=5)).any()
    assert (draw_triplets(seed=None) != draw_triplets(seed=None)).any()


def test_triplet_batches_differ_within_a_stream():
    first, second = islice(TripletGenerator(0).flow(numbered_images(10), LABELS), 2)
    assert (first[0][0] != second[0][0]).any()


@pytest.mark.parametrize(
    "labels", [[1, 1, 1], [0, 1, 2], [0], []], ids=["one class", "singletons", "one image", "no images"]
)
def test_labels_without_triplets_are_refused_at_once(labels):
    message = (
        "^A triplet needs two images of one class and one of another: give at least two classes, "
        "one of them with two images.$"
    )
    with pytest.raises(ValueError, match=message):
        TripletGenerator().flow(numbered_images(len(labels)), np.array(labels, int))


def test_few_other_images_among_many_are_found_quickly_and_evenly():
    labels = np.zeros(60_000, int)
    labels[[7, 50_000]] = 1  # only two images can be negatives of the others
    images = np.arange(60_000, dtype=np.int32)[:, None]
    began = time.perf_counter()
    drawn = [inputs for inputs, _ in islice(TripletGenerator(0).flow(images, labels), 10)]
    assert time.perf_counter() - began < 10  # ten batches; without a look-up, some 10 s for each
    anchors, positives, negatives = (np.concatenate([part[i][:, 0] for part in drawn]) for i in range(3))
    assert (labels[anchors] == labels[positives]).all() and (anchors != positives).all()
    assert (labels[anchors] != labels[negatives]).all()
    counts = [int((negatives == image).sum()) for image in (7, 50_000)]
    assert sum(counts) == 320 and min(counts) > 120


def test_triplets_of_ordinary_labels_are_drawn_as_ever():
    """The trained figures of the lessons rest on this order."""
    anchors, positives, negatives = draw_triplets(batches=1, batch_size=8).tolist()
    assert anchors == [7, 5, 4, 2, 2, 0, 0, 0]
    assert positives == [8, 6, 5, 3, 3, 1, 3, 2]
    assert negatives == [0, 3, 8, 5, 7, 7, 8, 8]


# What both samplers refuse

each_sampler = pytest.mark.parametrize(
    "sample",
    [TripletGenerator().flow, lambda images, labels: BalancedBatches(images, labels, 2, 2)],
    ids=["TripletGenerator", "BalancedBatches"],
)


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 2), int),
        np.array([0.0, 0.0, 1.0, 1.0]),
        np.eye(4, dtype=int),
        np.array(1),
        np.array(list("aabb")),
    ],
    ids=["(4, 2)", "floats", "one-hot", "a number", "text"],
)
@each_sampler
def test_labels_that_are_not_integers_of_one_axis_are_refused(sample, labels):
    with pytest.raises(ValueError, match=r"labels must be integers \(N,\) or \(N, 1\), not \S+ \("):
        sample(numbered_images(4), labels)


@each_sampler
def test_images_and_labels_must_be_as_many(sample):
    with pytest.raises(ValueError, match=r"^5 images but 4 labels: give one label for each image.$"):
        sample(numbered_images(5), [0, 0, 1, 1])


@each_sampler
def test_only_what_acts_like_an_array_is_drawn_from(sample, tmp_path):
    """Others pass `len`, and fail, or hand out something else, at the first batch."""
    labels = [0, 0, 1, 1]
    with h5py.File(tmp_path / "images.h5", "w") as file:
        lazy = file.create_dataset("images", data=numbered_images(4))
        for images in (lazy, numbered_images(4).tolist(), [image for image in numbered_images(4)]):
            name = type(images).__name__
            message = rf"^images must act like a NumPy array, which {name} does not: .*`np\.asarray\(images\)` reads"
            with pytest.raises(ValueError, match=message):
                sample(images, labels)
        sample(np.asarray(lazy), labels)
    np.save(tmp_path / "images.npy", numbered_images(4))
    sample(np.load(tmp_path / "images.npy", mmap_mode="r"), labels)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True])
def test_sizes_must_be_positive_integers(value):
    images, labels = numbered_images(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=f"^batch_size must be an integer ≥ 1, not {value!r}.$"):
        TripletGenerator().flow(images, labels, value)
    with pytest.raises(ValueError, match=f"^classes_per_batch must be an integer ≥ 1, not {value!r}.$"):
        BalancedBatches(images, labels, value, 2)
    with pytest.raises(ValueError, match=f"^images_per_class must be an integer ≥ 1, not {value!r}.$"):
        BalancedBatches(images, labels, 2, value)


def test_sizes_may_be_one_or_numpy_integers():
    images, labels = numbered_images(4), np.array([0, 0, 1, 1])
    assert len(next(TripletGenerator().flow(images, labels, 1))[1]) == 1
    assert len(BalancedBatches(images, labels, np.int64(1), 1)[0][1]) == 1


# BalancedBatches

COUNTS = {2: 7, 4: 6, 5: 9, 7: 6, 11: 12}  # images of each class
BALANCED_LABELS = np.random.default_rng(0).permutation(np.repeat(list(COUNTS), list(COUNTS.values())))


def balanced(classes=3, images=2, **kwargs):
    return BalancedBatches(numbered_images(len(BALANCED_LABELS)), BALANCED_LABELS, classes, images, **kwargs)


@pytest.mark.parametrize(("classes", "images"), [(3, 2), (5, 6), (1, 1), (2, 5)])
def test_batch_holds_p_classes_with_k_different_images_each(classes, images):
    for x, labels in balanced(classes, images, batches=8):
        chosen = indices_of(x)
        assert (BALANCED_LABELS[chosen] == labels).all()
        assert sorted(Counter(labels.tolist()).values()) == [images] * classes
        assert len(set(chosen)) == classes * images


def test_every_class_takes_part():
    seen = {int(label) for _, labels in balanced(2, 2, batches=20) for label in labels}
    assert seen == set(COUNTS)


def test_images_of_a_class_repeat_only_when_too_few_are_left():
    drawn = {label: [] for label in COUNTS}
    for x, labels in balanced(5, 2, batches=30):
        for index, label in zip(indices_of(x), labels, strict=True):
            drawn[int(label)].append(int(index))
    for label, count in COUNTS.items():
        per_round = count // 2 * 2  # a round ends when fewer than K = 2 images are left
        rounds = [drawn[label][i : i + per_round] for i in range(0, len(drawn[label]), per_round)]
        assert len(rounds) >= 5
        assert all(len(set(one)) == len(one) for one in rounds)
        assert rounds[0] != rounds[1]  # shuffled anew
        if count % 2:
            assert len(set(drawn[label])) == count  # the image left over comes in another round
        else:
            assert all(len(set(one)) == count for one in rounds[:-1])


def test_an_epoch_draws_about_n_images():
    assert len(balanced(3, 2)) == 40 // 6
    assert len(balanced(5, 6)) == 1
    assert len(balanced(3, 2, batches=11)) == 11
    few = BalancedBatches(numbered_images(4), [0, 0, 1, 1], 2, 2)
    assert len(few) == len(list(few)) == 1
    assert len(BalancedBatches(numbered_images(3), [0, 0, 0], 1, 2)) == 1


@pytest.mark.parametrize("batches", [0, -1, 2.5])
def test_an_epoch_needs_a_whole_number_of_batches(batches):
    with pytest.raises(ValueError, match=rf"^batches must be an integer ≥ 1, not {batches}\.$"):
        balanced(batches=batches)


def test_default_batch_is_ten_classes_with_twelve_images():
    labels = np.repeat(np.arange(10), 20)
    batches = BalancedBatches(numbered_images(200), labels)
    assert len(batches) == 1
    assert Counter(batches[0][1].tolist()) == dict.fromkeys(range(10), 12)


def test_index_outside_the_epoch_is_refused():
    batches = balanced(batches=3)
    assert len(list(batches)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"^batch {index} of 3$"):
            batches[index]


def test_balanced_batch_has_the_images_dtype_and_flat_labels():
    images = numbered_images(4, "float16")
    x, labels = BalancedBatches(images, np.array([[0], [0], [1], [1]]), 2, 2)[0]
    assert (x.shape, x.dtype) == ((4, 4, 3, 1), np.dtype("float16"))
    assert (labels.shape, labels.dtype.kind) == ((4,), "i")


def test_augment_gets_every_batch_and_the_generator():
    calls = []

    def augment(images, rng):
        calls.append(images)
        return images + rng.integers(1, 2)

    batches = balanced(augment=augment, batches=4)
    for i, (x, _) in enumerate(batches):
        assert (x == calls[i] + 1).all()
    assert len(calls) == 4
    assert isinstance(batches.rng, np.random.Generator)


def test_balanced_batches_repeat_with_their_seed():
    def labels(**kwargs):
        return [(indices_of(x).tolist(), y.tolist()) for x, y in balanced(**kwargs)]

    assert labels(seed=1) == labels(seed=1)
    assert labels(seed=1) != labels(seed=2)
    assert labels() == labels(seed=0)
    assert labels(seed=None) != labels(seed=None)


def test_balanced_batches_change_from_epoch_to_epoch():
    batches = balanced(batches=2)
    assert [y.tolist() for _, y in batches] != [y.tolist() for _, y in batches]


def test_draws_go_on_from_a_saved_state():
    def draws(batches):
        return [(indices_of(x).tolist(), y.tolist()) for x, y in batches]

    batches = balanced(seed=1, augment=flip)
    list(batches)
    state = json.loads(json.dumps(batches.get_state()))
    expected = draws(batches) + draws(batches)
    other = balanced(seed=2, augment=flip)
    other.set_state(state)
    assert draws(other) + draws(other) == expected
    assert draws(batches) != expected[: len(batches)]


def flip(images, rng):
    return images[:, :: rng.choice([-1, 1])]


@pytest.mark.parametrize("labels", [np.arange(40) % 5, np.arange(40) % 4])
def test_state_of_other_images_is_refused(labels):
    other = BalancedBatches(numbered_images(40), labels, 3, 2)
    state = other.get_state()
    batches = balanced()
    before = batches.get_state()
    with pytest.raises(ValueError, match=r"^This state was taken from other images or labels: start again"):
        batches.set_state(state)
    assert batches.get_state() == before


def test_batches_are_drawn_as_ever():
    """The trained figures of the lessons rest on this order."""
    drawn = [(indices_of(x).tolist(), y.tolist()) for x, y in balanced(2, 3, batches=2)]
    assert drawn == [
        ([1, 13, 4, 18, 38, 20], [7, 7, 7, 5, 5, 5]),
        ([25, 3, 11, 30, 8, 26], [7, 7, 7, 5, 5, 5]),
    ]


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 4, "use_multiprocessing": True}, {"use_multiprocessing": True}]
)
def test_workers_are_refused(options):
    """Of 24 batches that four processes drew in two epochs, 11 differed."""
    message = (
        r"^BalancedBatches draws in one place, so (workers=\d|use_multiprocessing=True) is refused: worker "
    )
    with pytest.raises(ValueError, match=message):
        balanced(**options)
    batches = balanced()
    with pytest.raises(ValueError, match=message):
        for name, value in options.items():
            setattr(batches, name, value)
    assert (batches.workers, batches.use_multiprocessing) == (1, False)


def test_options_that_change_nothing_are_accepted():
    batches = balanced(workers=1, use_multiprocessing=False, max_queue_size=3)
    batches.workers = 0
    assert (batches.workers, batches.max_queue_size) == (0, 3)


def test_labels_keep_their_numbers_in_a_batch_or_are_refused():
    labels = np.array([111085122871, 111085122872]).repeat(3)
    try:
        _, drawn = BalancedBatches(numbered_images(6), labels, 2, 2)[0]
    except ValueError as error:  # JAX
        assert "would cut these labels to 32 bits. Number the classes from 0" in str(error)
    else:
        assert sorted(drawn.tolist()) == labels[[0, 1, 3, 4]].tolist()


# number_classes


@pytest.mark.parametrize(
    "labels",
    [
        [30, 10, 30, 20],
        np.array([[30], [10], [30], [20]], np.uint8),
        np.array([2**62 + 2, 2**62, 2**62 + 2, 2**62 + 1]),
        np.array([2**64 - 1, 2, 2**64 - 1, 2**63], np.uint64),
        ["shoe", "bag", "shoe", "coat"],
    ],
)
def test_classes_are_numbered_from_zero(labels):
    numbers, classes = number_classes(labels)
    assert (numbers.dtype, numbers.tolist(), len(classes)) == (np.int64, [2, 0, 2, 1], 3)
    assert classes[numbers].tolist() == np.ravel(labels).tolist()


@pytest.mark.parametrize("labels", [[0.0, 1.0], np.eye(3, dtype=int), 3, [None, 1]])
def test_labels_that_cannot_be_numbered_are_refused(labels):
    with pytest.raises(ValueError, match=r"^labels must be integers or text, \(N,\) or \(N, 1\), not "):
        number_classes(labels)


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match=r"^A batch of 6 classes needs as many; there are 5.$"):
        balanced(classes=6)


def test_too_small_a_class_is_refused():
    message = (
        "^images_per_class is 7, but the smallest class has 6. "
        "Lower images_per_class, or leave the small classes out.$"
    )
    with pytest.raises(ValueError, match=message):
        balanced(images=7)
    balanced(classes=5, images=6)


# flip_and_shift


def shifted(images, down, right, pixels):
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    return padded[:, down : down + height, right : right + width]


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_half_of_the_images_is_mirrored_and_each_moved_on_its_own(pixels):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 255, (1000, 6, 9, 2), dtype=np.uint8)
    original = images.copy()
    result = flip_and_shift(images, rng, pixels)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    counts, explained, mirrored = {}, np.zeros(len(images), bool), 0
    for down, right in product(range(2 * pixels + 1), repeat=2):
        plain = (result == shifted(images, down, right, pixels)).all(axis=(1, 2, 3))
        flipped = (result == shifted(images[:, :, ::-1], down, right, pixels)).all(axis=(1, 2, 3))
        counts[down, right] = (plain | flipped).sum()
        explained |= plain | flipped
        mirrored += flipped.sum()
    assert explained.all()
    assert min(counts.values()) > 1000 / len(counts) / 4, "every move is as likely as another"
    assert 0.45 < mirrored / 1000 < 0.55
    assert (images == original).all()


def test_default_shift_is_two_pixels():
    images = np.ones((1, 8, 8, 1), np.float32)
    rng = np.random.default_rng(0)
    empty_rows = {int((flip_and_shift(images, rng)[0, :, 4, 0] == 0).sum()) for _ in range(60)}
    assert empty_rows == {0, 1, 2}


def test_shift_of_zero_only_mirrors():
    images = np.random.default_rng(0).random((50, 4, 5, 1))
    result = flip_and_shift(images, np.random.default_rng(1), pixels=0)
    plain = (result == images).all(axis=(1, 2, 3))
    flipped = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (plain != flipped).all()
    assert 10 < flipped.sum() < 40


# erase


def test_half_of_the_images_lose_one_rectangle_to_noise():
    rng = np.random.default_rng(0)
    images = np.full((2000, 28, 30, 1), 300, np.int32)  # a value that no noise has
    result = erase(images, rng)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    assert (images == 300).all(), "the images handed in stay as they are"
    changed = (result != 300)[..., 0]
    erased = changed.any(axis=(1, 2))
    assert 0.45 < erased.mean() < 0.55
    heights, widths = changed.any(axis=2).sum(axis=1)[erased], changed.any(axis=1).sum(axis=1)[erased]
    assert (changed.sum(axis=(1, 2))[erased] == heights * widths).all(), "a whole rectangle each"
    assert set(heights) == set(widths) == set(range(4, 13))
    assert changed.any(axis=0).all(), "every place is hit by some, the corners too"
    noise = result[result != 300]
    assert noise.min() == 0 and noise.max() == 255 and abs(noise.mean() - 127.5) < 1


def test_erased_colours_differ_by_channel_and_bytes_stay_bytes():
    images = np.zeros((50, 8, 8, 3), np.uint8)
    result = erase(images, np.random.default_rng(0), sides=(2, 8))
    assert result.dtype == np.uint8
    colours = result[(result > 0).any(axis=-1)]
    assert (colours[:, 0] != colours[:, 1]).mean() > 0.9


def test_a_rectangle_may_fill_the_image():
    result = erase(np.full((40, 5, 5, 1), -1, np.int16), np.random.default_rng(0), sides=(5, 5))
    filled = (result >= 0).all(axis=(1, 2, 3))
    assert 10 < filled.sum() < 30 and (result[~filled] == -1).all()


def test_a_rectangle_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"sides"):
        erase(np.zeros((4, 8, 8, 1)), np.random.default_rng(0))
