"""The course's network in PyTorch, layer for layer, for the scripts beside this one.

The same shapes, start values, batch normalisation and optimiser as `helpers.networks.embedding_network` and lesson 4;
batches, miners and losses are those of pytorch-metric-learning.
"""

import math

import torch
from pytorch_metric_learning import distances, losses, reducers, samplers
from torch import nn


class EmbeddingNetwork(nn.Module):
    """Images (B, 28, 28, 1) with values 0–255 in, unit vectors (B, d) out."""

    def __init__(self, dimensions=64, filters=(16, 32, 64)):
        super().__init__()
        stages, channels = [], 1
        for stage, width in enumerate(filters):
            if stage > 0:
                stages.append(nn.MaxPool2d(2))
            for _ in range(2):
                stages += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width, eps=1e-3, momentum=0.1),  # Keras calls this momentum 0.9
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.stages, self.dense = nn.Sequential(*stages), nn.Linear(channels, dimensions)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)  # Keras calls it Glorot
        nn.init.zeros_(self.dense.bias)

    def forward(self, images):
        x = images.permute(0, 3, 1, 2).float() / 255
        x = self.stages(x).mean(dim=(2, 3))
        return nn.functional.normalize(self.dense(x).float())


def batch_all(margin=0.2):
    """All triplets of the batch, averaged over those with a penalty, Euclidean distances."""
    return losses.TripletMarginLoss(
        margin, distance=distances.LpDistance(), reducer=reducers.AvgNonZeroReducer()
    )


class Batches:
    """P×K batches without end: `BalancedBatches` with the library's own sampler."""

    def __init__(self, images, labels, classes=10, per_class=12, batches=100):
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels).long()
        self.size = classes * per_class
        self.sampler = samplers.MPerClassSampler(
            labels, per_class, self.size, length_before_new_iter=batches * self.size
        )

    def __iter__(self):
        while True:
            for chosen in torch.tensor(list(self.sampler)).split(self.size):
                yield self.images[chosen], self.labels[chosen]


def one_cycle(optimiser, steps):
    """From a tenth of the learning rate up to it in a quarter of the steps, then down to 0 along a cosine."""
    warmup = steps // 4

    def share(step):
        if step < warmup:
            return 0.1 + 0.9 * step / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (steps - warmup))))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


class Training:
    """A network and what trains it, step by step.

    Args:
        bfloat16: compute the network's layers in 16 bits.
        channels_last: lay pictures out in memory as TensorFlow does.
        compiled: let `torch.compile` fuse the network's operations.
    """

    def __init__(
        self, images, labels, steps, peak, bfloat16=False, channels_last=False, compiled=False, seed=0
    ):
        torch.manual_seed(seed)
        self.network = EmbeddingNetwork()
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.network) if compiled else self.network
        self.bfloat16 = bfloat16
        self.loss = batch_all()
        self.optimiser = torch.optim.Adam(self.network.parameters(), peak, eps=1e-7)
        self.schedule = one_cycle(self.optimiser, steps)
        self.batches = iter(Batches(images, labels))

    def run(self, steps):
        self.network.train()
        for _ in range(steps):
            images, labels = next(self.batches)
            self.optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                embeddings = self.forward(images)
            self.loss(embeddings.float(), labels).backward()
            self.optimiser.step()
            self.schedule.step()

    @torch.inference_mode()
    def embed(self, images):
        self.network.eval()
        return torch.cat([self.network(part) for part in torch.from_numpy(images).split(500)]).numpy()
