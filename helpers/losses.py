"""Metric losses: triplet losses first, then losses over pairs, then losses over learnable proxies.

One signature for all. A triplet or pair loss takes labels (B,) or (B, 1) and embeddings (B, d); a proxy loss takes the
same labels and the cosines (B, C) that the layer `CosineProxies(C)` makes of the embeddings. (`TripletLoss` alone takes
explicit triplets.) Each returns one value per image, (B,), whose mean is the loss. What a batch lacks, triplets or
positive pairs, adds 0 to it, never NaN. All of them are registered with Keras, so a compiled model survives save and
load, and all compute in float32, whatever the network computes in.

Labels are integers of any size, and two images are of one class only if their labels are equal: see `LabelLoss`.
"""

import math
import numbers

import keras
import numpy as np
from keras import ops

NUMBER_THEM = "Number the classes from 0: `labels, classes = helpers.sampling.number_classes(labels)`."
# From here on a dtype no longer holds every integer, and two class numbers may have become one.
NOT_EXACT_FROM = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24, "float64": 2**53}


def pairwise_distances(embeddings, squared=False, others=None):
    """Distance from every embedding of the batch to every other one.

    Args:
        embeddings: float tensor (B, d).
        squared: return squared distances, which skips the square root.
        others: float tensor (M, d), if the distances to these are wanted instead.

    Returns:
        float32 tensor (B, B), or (B, M). Where two embeddings of the batch coincide the distance and its gradient are
        exactly 0.

    ‖a‖² + ‖b‖² − 2ab loses the digits that its terms share, so a batch far from the origin is first moved there, which
    changes no distance. What remains is a batch that is itself wide: a distance below a thousandth of its width is not
    to be trusted.
    """
    embeddings = ops.cast(embeddings, "float32")  # in bfloat16 the subtraction below would lose every digit
    origin = ops.stop_gradient(nearest_to_mean(embeddings))
    embeddings = embeddings - origin
    if others is None:
        products = ops.matmul(embeddings, ops.transpose(embeddings))  # (B, B)
        norms = their_norms = ops.diagonal(
            products
        )  # (B,), rounded as the products are: equal rows are 0 apart
    else:
        others = ops.cast(others, "float32") - origin
        products = ops.matmul(embeddings, ops.transpose(others))  # (B, M)
        norms, their_norms = (ops.sum(ops.square(x), axis=1) for x in (embeddings, others))
    distances = ops.maximum(norms[:, None] + their_norms[None, :] - 2.0 * products, 0.0)
    return distances if squared else safe_sqrt(distances)


def nearest_to_mean(embeddings):
    """Of the embeddings (B, d) and the origin, the one that is nearest to the mean of the embeddings: a tensor (d,).

    Unlike the mean itself it can be subtracted without rounding where the embeddings have few digits or lie together.
    """
    points = ops.concatenate([ops.zeros_like(embeddings[:1]), embeddings], axis=0)  # (1 + B, d)
    from_mean = ops.sum(ops.square(points - ops.mean(embeddings, axis=0)), axis=1)  # (1 + B,)
    return ops.take(points, ops.argmin(from_mean), axis=0)


def safe_sqrt(x):
    """Square root of non-negative values whose gradient at 0 is 0 instead of infinite."""
    is_zero = ops.equal(x, 0.0)
    return ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, x)))


def flat_labels(labels):
    """Labels (B,) or (B, 1) as a tensor (B,) that tells apart what they told apart.

    Raises:
        ValueError: they are one-hot or text, or too large for the integers of JAX, which have 32 bits.
    """
    if not ops.is_tensor(labels):
        labels = np.asarray(labels)
        if labels.dtype.kind not in "biuf":
            raise ValueError(f"Labels must be integers, not {labels.dtype}. {NUMBER_THEM}")
        if labels.dtype == np.uint64:
            labels = labels.astype(np.int64)  # one to one, and every backend knows it
    shape = tuple(labels.shape)
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, None))):
        raise ValueError(
            f"Labels must be class numbers (B,) or (B, 1), not {shape}. If they are one-hot, give "
            "np.argmax(labels, axis=1)."
        )
    tensor = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if isinstance(labels, np.ndarray) and labels.dtype == np.int64 and dtype == "int32":
        if (labels != labels.astype(np.int32)).any():
            raise ValueError(f"On this backend labels must fit into 32 bits. {NUMBER_THEM}")
    return tensor


def class_numbers(labels):
    """Labels (B,) or (B, 1), of integers in any dtype, as an integer tensor (B,)."""
    labels = flat_labels(labels)
    is_long = keras.backend.standardize_dtype(labels.dtype).endswith("64")
    # From uint64 and uint32 too: both are one to one.
    return ops.cast(labels, "int64" if is_long else "int32")


def trust(labels, classes=None):
    """1 for every label (B,) that is a class number, NaN for every other one. Where values can be seen, raise instead.

    Args:
        labels: tensor (B,), of integers or floats.
        classes: C, where labels must lie in 0 … C − 1.

    Raises:
        ValueError: floats that are no whole numbers or so large that some are missing; labels that have no proxy.
    """
    dtype, trusted = keras.backend.standardize_dtype(labels.dtype), []
    if dtype in NOT_EXACT_FROM:
        limit = NOT_EXACT_FROM[dtype]
        whole = ops.logical_and(ops.equal(labels, ops.floor(labels)), ops.abs(labels) < limit)
        trusted.append(
            (whole, f"Labels in {dtype} must be whole numbers, and below {limit:,} to be told apart.")
        )
    if classes is not None:
        labels = class_numbers(labels)
        inside = ops.logical_and(labels >= 0, labels < classes)
        trusted.append((inside, f"With {classes} proxies, labels must lie in 0 … {classes - 1}."))
    factor = 1.0
    for fine, message in trusted:
        seen = values_of(fine)
        if seen is None:
            factor = factor * ops.where(fine, 1.0, float("nan"))
        elif not seen.all():
            raise ValueError(f"{message} Some are not, such as {values_of(labels)[~seen][0]}. {NUMBER_THEM}")
    return factor


def values_of(tensor):
    """The values of a tensor as a NumPy array; `None` in a function that is being compiled, where it has none yet."""
    try:
        return ops.convert_to_numpy(tensor)
    except (NotImplementedError, TypeError):  # TensorFlow and PyTorch raise the one, JAX the other
        return None


def pair_masks(labels):
    """Which pairs of a batch are positive and which negative.

    Args:
        labels: tensor (B,) or (B, 1), of integers in any dtype.

    Returns:
        Two boolean tensors (B, B): same class but not the same image; different class.
    """
    labels = class_numbers(labels)
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.eye(ops.shape(labels)[0], dtype="bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def sort_together(first, first_mask, second, second_mask):
    """Merge each row of one matrix with the same row of another, in ascending order, and keep the B − 1 that matter.

    Args:
        first: float tensor (B, B). Where it ties with `second`, it comes first.
        first_mask: boolean tensor (B, B), the entries that matter.
        second: float tensor (B, B).
        second_mask: boolean tensor (B, B). Of each row, B − 1 entries matter in the two masks together.

    Returns:
        Float tensor (B, B − 1), the sorted values that matter, and boolean tensor (B, B − 1), which are of `first`.
    """
    values = ops.concatenate(
        [ops.where(first_mask, first, float("inf")), ops.where(second_mask, second, float("inf"))], axis=1
    )  # (B, 2B)
    batch_size = ops.shape(first)[0]
    order = ops.argsort(ops.stop_gradient(values), axis=1)  # stable: equal values stay in their order
    order = order[:, : batch_size - 1]  # what does not matter is infinite and comes last
    return ops.take_along_axis(values, order, axis=1), order < batch_size


def shares_of_mean(values, counted):
    """Scale `values` (B, ...) so that their sum, over B, is the mean of those that are `counted`, a boolean tensor.

    Without any, all shares are 0.
    """
    counted = ops.cast(counted, "float32")
    batch_size = ops.cast(ops.shape(values)[0], "float32")
    return values * counted * batch_size / ops.maximum(ops.sum(counted), 1.0)


def is_number(value):
    """Whether it is a finite number, of Python or of NumPy."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def plain(value):
    """A NumPy number as the Python number that a configuration file can hold; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


class LabelLoss(keras.losses.Loss):
    """What all losses of labels share: labels reach `call` as they are.

    Keras would cast them to floats, which merges classes: from 2²⁴ on in float32, from 2⁸ on in bfloat16.

    Raises (when it is called):
        ValueError: labels that are one-hot, text, fractions, not as many as embeddings, or, with proxies, outside of
            0 … C − 1. Values cannot be seen while TensorFlow or JAX compile a training: there, a label that is no class
            number makes the loss NaN (or TensorFlow says that it is outside the valid range). JAX cuts integers to 32
            bits before anybody sees them, so number larger ones (`helpers.sampling.number_classes`).
    """

    has_proxies = False

    def __call__(self, y_true, y_pred, sample_weight=None):
        labels, shape = flat_labels(y_true), np.shape(y_pred)  # (B,); (B, d), or (B, C) with proxies
        if None not in (labels.shape[0], shape[0]) and labels.shape[0] != shape[0]:
            raise ValueError(f"{shape[0]} embeddings but {labels.shape[0]} labels: give one label for each.")
        factor = trust(labels, shape[1] if self.has_proxies else None)
        # Keras's own does weights, mask and reduction.
        keras_loss = keras.losses.Loss(self.name, self.reduction, self.dtype)
        keras_loss.call = lambda _, y_pred: factor * self.call(labels, y_pred)
        return keras_loss(y_pred, y_pred, sample_weight)


class TripletLossBase(LabelLoss):
    """What all triplet losses share: the margin, squared or plain distances, and how they are saved.

    Args:
        margin: how much farther than the positive a negative should be, in the unit of the distance;
            `"soft"` replaces [x + margin]+ by the softplus log(1 + exp(x)), which has no margin.
        squared: compare squared distances.
    """

    def __init__(self, margin=0.2, squared=False, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        if not (isinstance(margin, str) and margin == "soft") and not (is_number(margin) and margin >= 0):
            raise ValueError(f"margin must be a number ≥ 0 or 'soft', not {margin!r}.")
        self.margin = plain(margin)
        self.squared = squared

    def penalty(self, difference):
        """Penalty of triplets, any shape, given d(anchor, positive) − d(anchor, negative)."""
        return ops.softplus(difference) if self.margin == "soft" else ops.relu(difference + self.margin)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin, "squared": self.squared}


@keras.saving.register_keras_serializable("metric_learning")
class TripletLoss(TripletLossBase):
    """Triplet loss of explicit triplets: the mean of [d(a, p) − d(a, n) + margin]+.

    `y_pred` is (B, 3, d): the embeddings of anchor, positive and negative. `y_true` is not used: a triplet is its
    own supervision.

    Raises (when it is called):
        ValueError: `y_pred` is not (B, 3, d).

    Source: Schroff, Kalenichenko & Philbin, FaceNet, 2015 (arXiv 1503.03832).
    """

    __call__ = keras.losses.Loss.__call__  # no labels, nothing to check about them

    def call(self, y_true, y_pred):
        if len(y_pred.shape) != 3 or y_pred.shape[1] != 3:
            raise ValueError(
                f"TripletLoss takes anchors, positives and negatives, (B, 3, d), not {tuple(y_pred.shape)}. "
                "For embeddings (B, d) with labels, take BatchAllTripletLoss."
            )
        anchor, positive, negative = ops.unstack(ops.cast(y_pred, "float32"), 3, axis=1)  # each (B, d)
        to_positive = ops.sum(ops.square(anchor - positive), axis=-1)  # (B,)
        to_negative = ops.sum(ops.square(anchor - negative), axis=-1)
        if not self.squared:
            to_positive, to_negative = safe_sqrt(to_positive), safe_sqrt(to_negative)
        return self.penalty(to_positive - to_negative)


@keras.saving.register_keras_serializable("metric_learning")
class BatchAllTripletLoss(TripletLossBase):
    """All triplets of the batch, averaged over those with a penalty above zero.

    A penalty of [d(a, p) + margin − d(a, n)]+ is active or 0, so the sum over B³ triplets is a sum over B² distances,
    each times the number of active triplets it is part of. Sorting gives these numbers: O(B² log B) time, O(B²)
    memory. `"soft"` has no such sum and holds all triplets at once: fine up to a few hundred images, several arrays of
    4 GB at B = 1,024.

    Source: Hermans, Beyer & Leibe, In Defense of the Triplet Loss, 2017 (arXiv 1703.07737), "batch all ≠ 0".
    """

    def call(self, y_true, y_pred):
        distances = pairwise_distances(y_pred, self.squared)  # (B, B)
        positive, negative = pair_masks(y_true)  # (B, B) each
        if self.margin == "soft":
            # (B, B, B): anchor, positive, negative
            valid = ops.logical_and(positive[:, :, None], negative[:, None, :])
            penalties = self.penalty(distances[:, :, None] - distances[:, None, :])
            penalties = ops.where(valid, penalties, 0.0)
            active = ops.sum(ops.cast(penalties > 0.0, "float32"))
            per_anchor = ops.sum(penalties, axis=(1, 2))  # (B,)
        else:
            # (B, B − 1): d(a, p) + margin and d(a, n) of an anchor in one row. A triplet is active where n is before p.
            row, is_positive = sort_together(distances + self.margin, positive, distances, negative)
            is_positive = ops.cast(is_positive, "float32")
            negatives_before = ops.cumsum(1.0 - is_positive, axis=1)
            positives_after = ops.sum(is_positive, axis=1, keepdims=True) - ops.cumsum(is_positive, axis=1)
            active = ops.sum(is_positive * negatives_before)
            times = is_positive * negatives_before - (1.0 - is_positive) * positives_after
            per_anchor = ops.sum(row * times, axis=1)  # (B,)
        batch_size = ops.cast(ops.shape(per_anchor)[0], "float32")
        return per_anchor * batch_size / ops.maximum(active, 1.0)  # its mean is the mean over active triplets


@keras.saving.register_keras_serializable("metric_learning")
class SemiHardTripletLoss(TripletLossBase):
    """For each anchor and positive, the nearest negative that is still farther than the positive.

    Where no negative is farther than the positive, the farthest negative is taken. The mean runs over all pairs of
    anchor and positive.

    Source: FaceNet (arXiv 1503.03832), in the form that TensorFlow Addons' `triplet_semihard_loss` gave it.
    """

    def call(self, y_true, y_pred):
        distances = pairwise_distances(y_pred, self.squared)
        positive, negative = pair_masks(y_true)
        # (B, B − 1): the distances to negatives and positives of an anchor in one row, and its negatives (B, B) alone
        row, is_negative = sort_together(distances, negative, distances, positive)
        sorted_negatives = ops.sort(ops.where(negative, distances, float("inf")), axis=1)
        # How many negatives a positive leaves behind; the one after them is infinite where there is none.
        not_farther = ops.cumsum(ops.cast(is_negative, "int32"), axis=1)
        nearest_farther = ops.take_along_axis(sorted_negatives, not_farther, axis=1)
        farthest = ops.max(ops.where(negative, distances, 0.0), axis=1)[:, None]  # (B, 1)
        to_negative = ops.where(nearest_farther < float("inf"), nearest_farther, farthest)
        valid = ops.logical_and(ops.logical_not(is_negative), ops.any(negative, axis=1)[:, None])
        penalties = self.penalty(ops.where(valid, row - to_negative, 0.0))
        return ops.sum(shares_of_mean(penalties, valid), axis=1)  # (B,)


@keras.saving.register_keras_serializable("metric_learning")
class BatchHardTripletLoss(TripletLossBase):
    """For each anchor, its farthest positive and its nearest negative.

    The mean runs over the anchors that have both.

    Source: Hermans, Beyer & Leibe, 2017 (arXiv 1703.07737), "batch hard".
    """

    def call(self, y_true, y_pred):
        distances = pairwise_distances(y_pred, self.squared)
        positive, negative = pair_masks(y_true)
        hardest_positive = ops.max(ops.where(positive, distances, 0.0), axis=1)  # (B,)
        largest = ops.max(distances, axis=1)
        hardest_negative = ops.min(ops.where(negative, distances, largest[:, None]), axis=1)
        valid = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
        return shares_of_mean(self.penalty(hardest_positive - hardest_negative), valid)  # (B,)


# Losses over pairs


def cosines(a, b):
    """Cosine of the angle between every row of `a` (M, d) and every row of `b` (N, d): a float32 tensor (M, N).

    A row of zeros has the cosine 0 with everything, and a gradient of finite size.
    """
    a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
    # The lower bound lies under the root: the gradient of a norm is infinite at 0.
    a = a * ops.rsqrt(ops.maximum(ops.sum(ops.square(a), axis=1, keepdims=True), 1e-12))
    b = b * ops.rsqrt(ops.maximum(ops.sum(ops.square(b), axis=1, keepdims=True), 1e-12))
    return ops.matmul(a, ops.transpose(b))


def log_one_plus_sum_exp(x, mask, axis):
    """log(1 + Σ exp(x)) over the entries of `x` where `mask` is true, without overflow: 0 where there are none."""
    return ops.softplus(ops.logsumexp(ops.where(mask, x, -1e9), axis=axis))


class MetricLossBase(LabelLoss):
    """What all losses below share: settings that are numbers, how they are checked, and how they are saved.

    Args:
        settings: dict of name and value. A setting by which the loss divides or multiplies is above 0, every other one
            (a margin, say) at least 0.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(**kwargs)
        for name, value in settings.items():
            above_zero = name in ("alpha", "beta", "scale", "temperature")
            if not is_number(value) or value < 0 or (above_zero and value == 0):
                raise ValueError(f"{name} must be a number {'>' if above_zero else '≥'} 0, not {value!r}.")
            setattr(self, name, plain(value))
        self.settings = {name: plain(value) for name, value in settings.items()}

    def get_config(self):
        return {**super().get_config(), **self.settings}


class PairLossBase(MetricLossBase):
    """What the losses over pairs share: the batch is compared with itself, or with a memory (`CrossBatchMemory`)."""

    def call(self, y_true, y_pred):
        return self.compare(y_pred, None, *pair_masks(y_true))

    def compare(self, embeddings, others, positive, negative):
        """The loss of each embedding (B, d), compared with `others` (M, d), or with the batch itself if it is None.

        Args:
            positive, negative: boolean tensors (B, M), which pairs are of one class and which of two.

        Returns:
            float32 tensor (B,), whose mean is the loss.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("metric_learning")
class ContrastiveLoss(PairLossBase):
    """Pull positives closer than one distance, push negatives farther than another.

    The mean of [d − positive_margin]+ over the positive pairs where it is above 0, plus the mean of
    [negative_margin − d]+ over the negative pairs where it is above 0. d is the Euclidean distance between rows of
    `y_pred` (B, d), as they come. Without positive pairs the second mean is all there is.

    Source: Hadsell, Chopra & LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006, who square both
    terms; this is the form of pytorch-metric-learning, which does not.
    """

    def __init__(self, positive_margin=0.0, negative_margin=1.0, **kwargs):
        super().__init__({"positive_margin": positive_margin, "negative_margin": negative_margin}, **kwargs)

    def compare(self, embeddings, others, positive, negative):
        distances = pairwise_distances(embeddings, others=others)  # (B, M)
        pull = ops.where(positive, ops.relu(distances - self.positive_margin), 0.0)
        push = ops.where(negative, ops.relu(self.negative_margin - distances), 0.0)
        return ops.sum(shares_of_mean(pull, pull > 0) + shares_of_mean(push, push > 0), axis=1)  # (B,)


@keras.saving.register_keras_serializable("metric_learning")
class MultiSimilarityLoss(PairLossBase):
    """Weigh every pair by how it compares with the anchor's other pairs.

    For each anchor, with s the cosines between rows of `y_pred` (B, d):
    1/alpha · log(1 + Σ_positives exp(−alpha (s − base))) + 1/beta · log(1 + Σ_negatives exp(beta (s − base))).

    Args:
        alpha, beta: how much the hardest positive and the hardest negative dominate the sums.
        base: the cosine that positives should exceed and negatives stay below.
        epsilon: with a number (the paper's is 0.1) only informative pairs take part: positives less similar than the
            most similar negative plus epsilon, negatives more similar than the least similar positive minus epsilon.
            None: all pairs do.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, 2019
    (arXiv 1904.06627).
    """

    def __init__(self, alpha=2, beta=50, base=0.5, epsilon=None, **kwargs):
        settings = {"alpha": alpha, "beta": beta, "base": base}
        super().__init__(settings if epsilon is None else {**settings, "epsilon": epsilon}, **kwargs)
        self.epsilon = plain(epsilon)

    def compare(self, embeddings, others, positive, negative):
        similarities = cosines(embeddings, embeddings if others is None else others)  # (B, M)
        if self.epsilon is not None:
            nearest_negative = ops.max(
                ops.where(negative, similarities, -float("inf")), axis=1, keepdims=True
            )
            farthest_positive = ops.min(
                ops.where(positive, similarities, float("inf")), axis=1, keepdims=True
            )
            positive = ops.logical_and(positive, similarities - self.epsilon < nearest_negative)
            negative = ops.logical_and(negative, similarities + self.epsilon > farthest_positive)
        above = similarities - self.base
        pull = log_one_plus_sum_exp(-self.alpha * above, positive, axis=1) / self.alpha  # (B,)
        push = log_one_plus_sum_exp(self.beta * above, negative, axis=1) / self.beta
        return pull + push


@keras.saving.register_keras_serializable("metric_learning")
class SupConLoss(PairLossBase):
    """For each anchor, pick its positives out of all other images of the batch: a softmax over cosines.

    −log p(positive), averaged over the anchor's positives, where p is the softmax of cosine / temperature over all
    images but the anchor. The cosines are those between rows of `y_pred` (B, d). The mean runs over the anchors that
    have both positives and negatives.

    Source: Khosla et al., Supervised Contrastive Learning, 2020 (arXiv 2004.11362), "L_out".
    """

    def __init__(self, temperature=0.1, **kwargs):
        super().__init__({"temperature": temperature}, **kwargs)

    def compare(self, embeddings, others, positive, negative):
        logits = cosines(embeddings, embeddings if others is None else others) / self.temperature  # (B, M)
        either = ops.logical_or(positive, negative)
        log_sum = ops.logsumexp(ops.where(either, logits, -1e9), axis=1, keepdims=True)  # (B, 1)
        penalties = ops.sum(ops.where(positive, log_sum - logits, 0.0), axis=1)  # (B,)
        penalties = penalties / ops.maximum(ops.sum(ops.cast(positive, "float32"), axis=1), 1.0)
        valid = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
        return shares_of_mean(penalties, valid)


@keras.saving.register_keras_serializable("metric_learning")
class CrossBatchMemory(keras.layers.Layer):
    """Compare each batch with itself and with the embeddings of earlier batches, which take no memory for gradients.

    `CrossBatchMemory(SupConLoss(), size=2048)([embeddings, labels])` returns the embeddings (B, d) as they are, and
    adds a loss to the model's while it trains: that of the batch, plus that of the batch against the memory. Then the
    batch enters the memory, and the oldest leave it. So a batch never meets its own copy, only embeddings of earlier
    steps as the network made them then: without gradient, and the staler the faster the network changes. The memory is
    saved with the model's weights.

    Args:
        loss: a loss over pairs (`ContrastiveLoss`, `MultiSimilarityLoss`, `SupConLoss`).
        size: embeddings in the memory.
        start: steps before the memory counts: in the first ones what it holds is soon stale.

    `labels` is a model's input of class numbers (B,): `keras.Input((), dtype="int32")`.

    Source: Wang et al., Cross-Batch Memory for Embedding Learning, 2020 (arXiv 1912.06798). There the batch enters the
    memory before the two are compared.
    """

    def __init__(self, loss, size, start=0, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        if not isinstance(loss, PairLossBase):
            raise ValueError(f"loss must be a loss over pairs, such as SupConLoss(), not {loss!r}.")
        for name, value, least in (("size", size, 1), ("start", start, 0)):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer ≥ {least}, not {value!r}.")
        self.loss, self.size, self.start = loss, int(size), int(start)

    def build(self, input_shape):
        dimensions = input_shape[0][-1]
        self.embeddings = self.add_weight(
            shape=(self.size, dimensions), initializer="zeros", trainable=False, name="embeddings"
        )
        self.labels, self.filled, self.steps = (
            self.add_weight(shape=shape, dtype="int32", initializer="zeros", trainable=False, name=name)
            for name, shape in (("labels", (self.size,)), ("filled", ()), ("steps", ()))
        )

    def call(self, inputs, training=False):
        embeddings, labels = inputs
        if not training:
            return embeddings
        labels = ops.cast(class_numbers(labels), "int32")  # (B,)
        of_batch = ops.mean(self.loss.compare(embeddings, None, *pair_masks(labels)))
        older, older_labels = ops.convert_to_tensor(self.embeddings), ops.convert_to_tensor(self.labels)
        known = ops.arange(self.size) < self.filled
        same = ops.equal(labels[:, None], older_labels[None, :])  # (B, size)
        positive, negative = ops.logical_and(same, known), ops.logical_and(ops.logical_not(same), known)
        of_memory = ops.mean(self.loss.compare(embeddings, older, positive, negative))
        self.add_loss(of_batch + ops.where(self.steps >= self.start, of_memory, 0.0))
        newest_first = ops.concatenate([ops.stop_gradient(ops.cast(embeddings, "float32")), older], axis=0)
        their_labels = ops.concatenate([labels, older_labels], axis=0)
        self.embeddings.assign(ops.reshape(newest_first[: self.size], self.embeddings.shape))
        self.labels.assign(ops.reshape(their_labels[: self.size], (self.size,)))
        self.filled.assign(ops.minimum(self.filled + ops.shape(labels)[0], self.size))
        self.steps.assign(self.steps + 1)
        return embeddings

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "size": self.size, "start": self.start}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


# Losses over proxies: one learnable vector per class stands for its images


@keras.saving.register_keras_serializable("metric_learning")
class CosineProxies(keras.layers.Layer):
    """Embeddings (B, d) in, their cosines (B, classes) with one learnable proxy per class out.

    It goes behind the embedding network while a proxy loss trains it, and is left off for retrieval. It computes in
    float32 also under a mixed precision policy: bfloat16 keeps two to three digits, and 64 times a cosine needs more.
    The proxies start at a length of about 1, whatever d is.

    Args:
        classes: number of classes. The labels of the losses run from 0 to classes − 1.
    """

    def __init__(self, classes, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        if not isinstance(classes, numbers.Integral) or isinstance(classes, bool) or classes < 1:
            raise ValueError(f"classes must be an integer ≥ 1, not {classes!r}.")
        self.classes = int(classes)
        self.input_spec = keras.InputSpec(ndim=2)

    def build(self, input_shape):
        dimensions = input_shape[-1]
        self.proxies = self.add_weight(
            shape=(self.classes, dimensions),
            initializer=keras.initializers.RandomNormal(stddev=dimensions**-0.5),
            name="proxies",
        )

    def call(self, embeddings):
        return cosines(embeddings, self.proxies)

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.classes

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


def own_proxy(labels, y_pred):
    """Which of the cosines `y_pred` (B, C) belongs to an image and the proxy of its class: booleans (B, C)."""
    return ops.equal(labels[:, None], ops.arange(y_pred.shape[1], dtype="int32")[None, :])


class ProxyLossBase(MetricLossBase):
    """What the losses of cosines (B, C) share: each label must have a proxy."""

    has_proxies = True


@keras.saving.register_keras_serializable("metric_learning")
class NormalisedSoftmaxLoss(ProxyLossBase):
    """Classification with unit vectors: cross-entropy of cosine / temperature.

    `y_pred` is (B, C): the cosines that `CosineProxies` returns.

    Source: Zhai & Wu, Classification is a Strong Baseline for Deep Metric Learning, 2019 (arXiv 1811.12649).
    """

    def __init__(self, temperature=0.05, **kwargs):
        super().__init__({"temperature": temperature}, **kwargs)

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        logits = y_pred / self.temperature
        return ops.sparse_categorical_crossentropy(class_numbers(y_true), logits, from_logits=True)


@keras.saving.register_keras_serializable("metric_learning")
class CosFaceLoss(ProxyLossBase):
    """Normalised softmax that has to win by a margin: the cosine with the own proxy is lowered before the softmax.

    Cross-entropy of scale · (cosine − margin at the label). `y_pred` is (B, C): the cosines that `CosineProxies`
    returns.

    Source: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018 (arXiv 1801.09414).
    """

    def __init__(self, scale=64, margin=0.35, **kwargs):
        super().__init__({"scale": scale, "margin": margin}, **kwargs)

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        labels = class_numbers(y_true)
        logits = self.scale * ops.where(own_proxy(labels, y_pred), y_pred - self.margin, y_pred)
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@keras.saving.register_keras_serializable("metric_learning")
class ArcFaceLoss(ProxyLossBase):
    """Normalised softmax with a margin in the angle: the angle to the own proxy is widened before the softmax.

    Cross-entropy of scale · cosine, where the label's cosine, cos θ, becomes cos(θ + margin). An angle that would pass
    180° gets cos θ − margin · sin(margin) instead, which goes on falling. `y_pred` is (B, C): the cosines that
    `CosineProxies` returns. The gradient is finite also where a cosine is 1 or −1.

    Args:
        scale: what the cosines are multiplied by.
        margin: an angle in radians; 0.5 is 28.6°.

    Source: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019 (arXiv 1801.07698).
    """

    def __init__(self, scale=64, margin=0.5, **kwargs):
        super().__init__({"scale": scale, "margin": margin}, **kwargs)
        if margin >= math.pi:
            raise ValueError(f"margin is an angle in radians, below π = 180°, not {margin!r}.")

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        labels = class_numbers(y_true)
        sines = safe_sqrt(ops.maximum((1.0 - y_pred) * (1.0 + y_pred), 0.0))
        widened = y_pred * math.cos(self.margin) - sines * math.sin(self.margin)  # cos(θ + margin)
        beyond = y_pred - self.margin * math.sin(self.margin)
        widened = ops.where(y_pred >= -math.cos(self.margin), widened, beyond)
        logits = self.scale * ops.where(own_proxy(labels, y_pred), widened, y_pred)
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@keras.saving.register_keras_serializable("metric_learning")
class ProxyAnchorLoss(ProxyLossBase):
    """Each proxy is an anchor, which pulls its images, the farthest most, and pushes the others, the nearest most.

    With s the cosines `y_pred` (B, C) that `CosineProxies` returns: log(1 + Σ exp(−scale (s − margin))) over a proxy's
    own images, averaged over the proxies whose class is in the batch, plus log(1 + Σ exp(scale (s + margin))) over all
    other images, averaged over all proxies. The loss belongs to no single image: every one carries the same value.

    Source: Kim et al., Proxy Anchor Loss for Deep Metric Learning, 2020 (arXiv 2003.13911).
    """

    def __init__(self, scale=32, margin=0.1, **kwargs):
        super().__init__({"scale": scale, "margin": margin}, **kwargs)

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        own = own_proxy(class_numbers(y_true), y_pred)  # (B, C)
        pull = log_one_plus_sum_exp(-self.scale * (y_pred - self.margin), own, axis=0)  # (C,)
        push = log_one_plus_sum_exp(self.scale * (y_pred + self.margin), ops.logical_not(own), axis=0)
        present = ops.sum(ops.cast(ops.any(own, axis=0), "float32"))
        loss = ops.sum(pull) / ops.maximum(present, 1.0) + ops.mean(push)
        return ops.broadcast_to(loss, (ops.shape(y_pred)[0],))
