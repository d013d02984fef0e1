"""Triplet losses: one for explicit triplets, three that mine their triplets inside the batch.

Every in-batch loss takes labels (B,) or (B, 1) and embeddings (B, d), and returns one value per anchor, (B,), whose
mean is the loss. A batch without a single triplet gives 0, never NaN. All of them are registered with Keras, so a
compiled model survives save and load.
"""

import keras
from keras import ops


def pairwise_distances(embeddings, squared=False):
    """Distance from every embedding of the batch to every other one.

    Args:
        embeddings: float tensor (B, d).
        squared: return squared distances, which skips the square root.

    Returns:
        float32 tensor (B, B). Where two embeddings coincide the distance and its gradient are exactly 0.
    """
    embeddings = ops.cast(embeddings, "float32")  # in bfloat16 the subtraction below would lose every digit
    products = ops.matmul(embeddings, ops.transpose(embeddings))  # (B, B)
    norms = ops.sum(ops.square(embeddings), axis=1)  # (B,)
    distances = ops.maximum(norms[:, None] + norms[None, :] - 2.0 * products, 0.0)
    return distances if squared else safe_sqrt(distances)


def safe_sqrt(x):
    """Square root of non-negative values whose gradient at 0 is 0 instead of infinite."""
    is_zero = ops.equal(x, 0.0)
    return ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, x)))


def pair_masks(labels):
    """Which pairs of a batch are positive and which negative.

    Args:
        labels: tensor (B,) or (B, 1), of integers in any dtype (Keras hands them over as floats).

    Returns:
        Two boolean tensors (B, B): same class but not the same image; different class.
    """
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.eye(ops.shape(labels)[0], dtype="bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def sort_together(first, first_mask, second, second_mask):
    """Merge each row of one matrix with the same row of another, in ascending order.

    Args:
        first: float tensor (B, B). Where it ties with `second`, it comes first.
        first_mask: boolean tensor (B, B), the entries that matter.
        second: float tensor (B, B).
        second_mask: boolean tensor (B, B).

    Returns:
        Three float tensors (B, 2B): the sorted values; 1 where one is of `first` and matters, else 0; the same for
        `second`.
    """
    values = ops.concatenate([first, second], axis=1)
    matters = ops.concatenate([first_mask, second_mask], axis=1)
    order = ops.argsort(ops.stop_gradient(values), axis=1)  # stable: equal values stay in their order
    matters = ops.cast(ops.take_along_axis(matters, order, axis=1), "float32")
    is_first = ops.cast(order < ops.shape(first)[1], "float32")
    return ops.take_along_axis(values, order, axis=1), matters * is_first, matters * (1.0 - is_first)


class TripletLossBase(keras.losses.Loss):
    """What all triplet losses share: the margin, squared or plain distances, and how they are saved.

    Args:
        margin: how much farther than the positive a negative should be, in the unit of the distance;
            `"soft"` replaces [x + margin]+ by the softplus log(1 + exp(x)), which has no margin.
        squared: compare squared distances.
    """

    def __init__(self, margin=0.2, squared=False, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        if margin != "soft" and not (isinstance(margin, (int, float)) and margin >= 0):
            raise ValueError(f"margin must be a number ≥ 0 or 'soft', not {margin!r}.")
        self.margin = margin
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

    Source: Schroff, Kalenichenko & Philbin, FaceNet, 2015 (arXiv 1503.03832).
    """

    def call(self, y_true, y_pred):
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
            # (B, 2B): d(a, p) + margin and d(a, n) of an anchor in one row. A triplet is active where n comes before p.
            row, is_positive, is_negative = sort_together(
                distances + self.margin, positive, distances, negative
            )
            negatives_before = ops.cumsum(is_negative, axis=1)
            positives_after = ops.sum(is_positive, axis=1, keepdims=True) - ops.cumsum(is_positive, axis=1)
            active = ops.sum(is_positive * negatives_before)
            times = is_positive * negatives_before - is_negative * positives_after
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
        # (B, 2B): the distances to negatives and positives of an anchor in one row, and its negatives (B, B) alone
        to_positive, is_negative, is_positive = sort_together(distances, negative, distances, positive)
        sorted_negatives = ops.sort(ops.where(negative, distances, float("inf")), axis=1)
        # How many negatives a positive leaves behind; the one after them is infinite where there is none.
        not_farther = ops.cast(ops.cumsum(is_negative, axis=1), "int32")
        nearest_farther = ops.take_along_axis(sorted_negatives, not_farther, axis=1)
        farthest = ops.max(ops.where(negative, distances, 0.0), axis=1)[:, None]  # (B, 1)
        to_negative = ops.where(nearest_farther < float("inf"), nearest_farther, farthest)
        valid = ops.logical_and(is_positive > 0, ops.any(negative, axis=1)[:, None])
        penalties = ops.where(valid, self.penalty(ops.where(valid, to_positive - to_negative, 0.0)), 0.0)
        pairs = ops.sum(ops.cast(valid, "float32"))
        per_anchor = ops.sum(penalties, axis=1)
        batch_size = ops.cast(ops.shape(per_anchor)[0], "float32")
        return per_anchor * batch_size / ops.maximum(pairs, 1.0)


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
        penalties = ops.where(valid, self.penalty(hardest_positive - hardest_negative), 0.0)
        anchors = ops.sum(ops.cast(valid, "float32"))
        batch_size = ops.cast(ops.shape(penalties)[0], "float32")
        return penalties * batch_size / ops.maximum(anchors, 1.0)
