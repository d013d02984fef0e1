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

    Memory grows with B³: fine up to a few hundred images, 4 GB at B = 1,024.

    Source: Hermans, Beyer & Leibe, In Defense of the Triplet Loss, 2017 (arXiv 1703.07737), "batch all ≠ 0".
    """

    def call(self, y_true, y_pred):
        distances = pairwise_distances(y_pred, self.squared)  # (B, B)
        positive, negative = pair_masks(y_true)  # (B, B) each
        # (B, B, B): anchor, positive, negative
        valid = ops.logical_and(positive[:, :, None], negative[:, None, :])
        penalties = self.penalty(distances[:, :, None] - distances[:, None, :])
        penalties = ops.where(valid, penalties, 0.0)
        active = ops.sum(ops.cast(penalties > 0.0, "float32"))
        per_anchor = ops.sum(penalties, axis=(1, 2))  # (B,)
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
        to_negative = distances[:, None, :]  # (B, 1, B)
        farther = ops.logical_and(negative[:, None, :], to_negative > distances[:, :, None])  # (B, B, B)
        nearest_farther = ops.min(ops.where(farther, to_negative, float("inf")), axis=2)  # (B, B)
        farthest = ops.max(ops.where(negative, distances, 0.0), axis=1)[:, None]  # (B, 1)
        negatives = ops.where(ops.any(farther, axis=2), nearest_farther, farthest)
        has_negative = ops.any(negative, axis=1)[:, None]
        valid = ops.logical_and(positive, has_negative)
        penalties = ops.where(valid, self.penalty(ops.where(valid, distances - negatives, 0.0)), 0.0)
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
