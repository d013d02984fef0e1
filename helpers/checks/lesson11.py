"""Checks of lesson 11, search at scale."""

import sys
import threading

import numpy as np

from helpers.checks import Refused, exercise, guarded, number, shown
from helpers.retrieval import nearest


@exercise(
    "a quarter of the bytes for an error of at most half a step; one outlier makes the step wide for everybody, "
    "which is why FAISS keeps a range for each column",
    returns="two things: codes, an int8 array (N, d), and scale, one positive number",
)
def exercise_1(as_int8):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    vectors[3] = 0
    for factor, largest in ((1, 5.0), (0.01, 0.05), (1, -5.0)):
        v = np.clip(vectors * np.float32(factor), -4 * factor, 4 * factor)
        v[0, 0] = largest
        before = v.copy()
        answer = as_int8(v)
        assert isinstance(answer, (tuple, list)) and len(answer) == 2, "return two things: codes and scale"
        codes, scale = np.asarray(answer[0]), answer[1]
        assert codes.shape == v.shape, f"expected codes of shape {v.shape}, got {codes.shape}"
        assert codes.dtype == np.int8, f"the codes should be int8, not {codes.dtype}"
        assert np.ndim(scale) == 0 and scale > 0, (
            f"the scale should be one positive number for all, not {shown(scale)}"
        )
        assert np.array_equal(v, before), "the vectors that you were given have changed: work on a copy"
        scale, wide = float(scale), codes.astype(np.float64)
        assert (codes[3] == 0).all(), "0 should stay exactly 0: do not shift the values, only scale them"
        error = np.abs(wide * scale - v)
        assert np.abs(wide / scale - v).max() > 0.02 * np.abs(v).max() or error.max() <= 0.501 * scale, (
            "codes * scale should give the numbers back, and codes / scale does: return the step, not its inverse"
        )
        turned = (np.sign(wide) * np.sign(v) < 0) & (np.abs(v) > scale)
        assert not turned.any(), (
            f"{v[turned][0]:.3g} became {wide[turned][0] * scale:.3g}, of the other sign: it has wrapped around. int8 "
            "ends at 127, so the largest number, positive or negative, may get 127 and no more"
        )
        cut = np.abs(wide).max() == 127 and error.max() > 1.5 * scale
        assert not cut, "large numbers are cut off at 127: the scale must leave room for the largest of all"
        largest = int(np.abs(wide).max())
        assert largest == 127, (
            f"the largest code is {largest}: use the whole range from -127 to 127, and nothing beyond"
        )
        assert error.max() <= 0.501 * scale, (
            "an error is larger than half a step: round to the nearest whole number, int8 alone cuts off"
        )


@exercise(
    "the embedding has fewer directions than columns: what the last components hold, the neighbours hardly notice",
    returns="a dictionary {m: share of the ten nearest neighbours that are found}",
)
def exercise_2(recall_by_dimension):
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    spread = np.array([3, 2, 1.5, 1, 0.5, 0.1, 0.05, 0, 0, 0, 0, 0])
    gallery = (rng.normal(size=(1500, 12)) * spread) @ rotation + 4
    query = (rng.normal(size=(100, 12)) * spread) @ rotation + 4 + 0.6 * rotation[0] + 5 * rotation[5]
    gallery, query = gallery.astype(np.float32), query.astype(np.float32)
    asked = (2, 4, 7, 12)
    answer = recall_by_dimension(query, gallery, asked)
    assert isinstance(answer, dict) and list(answer) == list(asked), (
        f"return a dictionary with the keys {asked}, in this order"
    )
    found = np.array([number(answer[m]) for m in asked])
    assert ((found >= 0) & (found <= 1)).all(), f"shares lie between 0 and 1, yours are {found.round(3)}"
    assert not np.isclose(found, 1).all(), (
        "everything is found, even in 2 dimensions: the truth is the search in *all* dimensions, not another one in m"
    )

    def same(other):
        return np.abs(found - other).max() < 0.005

    expected = np.array([_recall_in(query, gallery, _projection(gallery, m)) for m in asked])
    if not same(expected):
        for mistake, other in _mistaken(query, gallery, asked):
            assert not same(other), mistake
    spread = ((gallery - gallery.mean(axis=0)) @ _projection(gallery, 7)).std(axis=0)
    scaled = [_recall_in(query, gallery, _projection(gallery, m) / spread[:m]) for m in asked[:3]]
    assert same(expected) or np.abs(found[:3] - scaled).max() > 0.005, (
        "every component was divided by its spread (whitened), which changes the distances: only turn the vectors"
    )
    assert found[2] > 0.1, (
        "7 components find next to nothing: are they those with the *smallest* spread? eigh lists them first, "
        "svd last"
    )
    assert found[3] > 0.99, (
        f"in all 12 dimensions nothing is lost, yet you find {found[3]:.3f}: turn queries and gallery by the same "
        "components, and subtract the same mean (the gallery's) from both"
    )
    assert found[2] > 0.99, (
        f"7 components hold everything here, yet you find {found[2]:.3f} of the neighbours"
    )
    wrong = np.abs(found - expected) > 0.005
    assert not wrong.any(), (
        f"in {np.array(asked)[wrong][0]} dimensions {expected[wrong][0]:.3f} of the ten neighbours are found, not "
        f"{found[wrong][0]:.3f}: take the components with the largest spread, of the gallery alone"
    )


def _projection(of, m, mean=None, turned=False):
    """The first m principal components, (d, m), of vectors less their mean."""
    components = np.linalg.svd(of - (of.mean(axis=0) if mean is None else mean), full_matrices=False)[2]
    return (components.T if turned else components)[:m].T


def _recall_in(query, gallery, projection, k=10, own_mean=False, in_order=False):
    truth = nearest(query, gallery, k)[1]
    shift = (query.mean(axis=0) - gallery.mean(axis=0)) if own_mean else 0
    found = nearest((query - shift) @ projection, gallery @ projection, k)[1]
    if in_order:
        return (found == truth).mean()
    return np.mean([len(np.intersect1d(f, t)) for f, t in zip(found, truth, strict=True)]) / k


def _mistaken(query, gallery, asked):
    """What is to be said about each of the usual slips, and the shares that it gives."""

    def shares(projection, **more):
        return np.array([_recall_in(query, gallery, projection(m), **more) for m in asked])

    yield (
        "these are the first m columns: turn the vectors to their principal components first",
        shares(lambda m: np.eye(12)[:, :m]),
    )
    yield (
        "the components are the rows of Vt, its first m: you took its columns",
        shares(lambda m: _projection(gallery, m, turned=True)),
    )
    yield (
        "the mean was not subtracted before the components were computed",
        shares(lambda m: _projection(gallery, m, mean=0)),
    )
    yield (
        "the components are those of the queries: take the gallery's, which is there before any query comes",
        shares(lambda m: _projection(query, m)),
    )
    yield (
        "the components are those of gallery and queries together: a query must not have a say in them",
        shares(lambda m: _projection(np.concatenate([gallery, query]), m)),
    )
    yield (
        "the queries were centred on their own mean, which moves them against the gallery: take the gallery's for both",
        shares(lambda m: _projection(gallery, m), own_mean=True),
    )
    yield (
        "that is the share of first neighbours: ten are asked for",
        shares(lambda m: _projection(gallery, m), k=1),
    )
    yield (
        "the neighbours need not come in the same order: ask which of the ten are there at all",
        shares(lambda m: _projection(gallery, m), in_order=True),
    )


@exercise(
    "build beside the old one, swap in one step, keep what came meanwhile in a small exact list: "
    "databases serve like this",
    returns="three functions: search, add, rebuild",
)
def exercise_3(serve):
    rng = np.random.default_rng(2)
    items = rng.normal(size=(90, 5)).astype(np.float32)
    query = rng.normal(size=(6, 5)).astype(np.float32)
    builder = _Builder()
    answer = serve(items[:50], builder)
    assert isinstance(answer, (tuple, list)) and len(answer) == 3 and all(map(callable, answer)), (
        "return three functions: search, add, rebuild"
    )
    search, add, rebuild = map(guarded, answer)
    assert builder.sizes == [50], "build the first index at once, from the vectors that you were given"
    _expect(search, query, items[:50], "at the beginning")
    add(items[50:70])
    _expect(search, query, items[:70], "after add, before any rebuild")
    assert builder.sizes == [50], "add should not build: it has to be quick"

    builder.hold()
    rebuilding = _Thread(rebuild)
    try:
        assert builder.started.wait(5), "rebuild did not call build"
        _in_time(lambda: _expect(search, query, items[:70], "during a rebuild"), "search")
        _in_time(lambda: add(items[70:80]), "add")
        _in_time(lambda: _expect(search, query, items[:80], "after an add during a rebuild"), "search")
    finally:
        builder.release()
        rebuilding.join(5)
    rebuilding.reraise()
    assert builder.sizes == [50, 70], (
        f"the rebuild should have got the 70 items that were there, build was called with {builder.sizes}"
    )
    _expect(search, query, items[:80], "after the rebuild (10 items came during it)")
    add(items[80:])
    _expect(search, query, items, "after a rebuild and one more add")
    rebuild()
    assert builder.sizes == [50, 70, 90], (
        f"the second rebuild should get all 90 items, not {builder.sizes[-1]}"
    )
    _expect(search, query, items, "after the second rebuild")
    assert builder.indexes[-1].searches > 0, (
        "after a rebuild the new index should answer: yours is never asked"
    )
    before = builder.indexes[0].searches
    search(query, 3)
    assert builder.indexes[0].searches == before, "the old index is still asked after the rebuild"
    _hammer(serve)


def _hammer(serve):
    """Four threads add and one rebuilds, all at the same time: nothing may be lost."""
    rng = np.random.default_rng(3)
    first, more = (
        rng.normal(size=(30_000, 8)).astype(np.float32),
        rng.normal(size=(4, 25, 8)).astype(np.float32),
    )
    search, add, rebuild = map(guarded, serve(first, _Builder()))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns as often as they can
    try:
        adding = [_Thread(lambda items=items: [add(item[None]) for item in items]) for items in more]
        rebuilding = _Thread(lambda: [rebuild() for _ in range(8)])
        for thread in (*adding, rebuilding):
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    for thread in (*adding, rebuilding):
        assert not thread.is_alive(), (
            "four threads that add and one that rebuilds never came to an end: is a lock kept?"
        )
        thread.reraise()
    distances = np.asarray(search(more.reshape(100, 8), 1)[0])
    lost = int((distances[:, 0] > 1e-3).sum())
    assert not lost, (
        f"of 100 items that four threads added at the same time, during rebuilds, {lost} were lost: two of them read "
        "the same state, and the later one overwrote what the earlier had written. Hold a lock from reading to writing"
    )


class _Index:
    def __init__(self, vectors):
        self.vectors, self.searches = np.array(vectors, np.float32), 0

    def search(self, query, k):
        self.searches += 1
        if k > len(self.vectors):
            raise Refused(f"the index holds {len(self.vectors)} items and was asked for {k}")
        return nearest(query, self.vectors, k)


class _Builder:
    """A slow `build`, which waits to be released, and remembers what it was given."""

    def __init__(self):
        self.sizes, self.indexes = [], []
        self.started, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, vectors):
        self.started.set()
        index = _Index(vectors)
        self.may_go_on.wait(10)
        self.sizes.append(len(index.vectors))
        self.indexes.append(index)
        return index

    def hold(self):
        self.started.clear()
        self.may_go_on.clear()

    def release(self):
        self.may_go_on.set()


class _Thread(threading.Thread):
    """A thread that keeps the error which ended it."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.error = function, None
        self.start()

    def run(self):
        try:
            self.function()
        except BaseException as error:
            self.error = error

    def reraise(self):
        if self.error is not None:
            raise self.error


def _in_time(function, name):
    thread = _Thread(function)
    thread.join(3)
    assert not thread.is_alive(), (
        f"{name} waits for the rebuild: hold a lock only while you swap, not while you build"
    )
    thread.reraise()


def _expect(search, query, items, when):
    for k in (1, 7, len(items)):
        answer = search(query, k)
        assert isinstance(answer, (tuple, list)) and len(answer) == 2, (
            f"{when}: search should return distances and ids"
        )
        distances, ids = map(np.asarray, answer)
        expected_distances, expected = nearest(query, items, k)
        assert ids.shape != (len(query), k) or ids.dtype.kind in "iu", (
            f"{when}: search should return distances first, then ids, which are integers"
        )
        assert ids.shape == (len(query), k), (
            f"{when}: expected ids of shape {(len(query), k)}, got {ids.shape}"
        )
        twice = any(len(set(row)) < k for row in ids.tolist())
        assert not twice, (
            f"{when}: an item was found twice: what is in the index must leave the list of new items"
        )
        assert np.isin(ids, np.arange(len(items))).all(), f"{when}: there are ids of items that do not exist"
        assert not np.array_equal(np.sort(ids), np.sort(expected)) or np.array_equal(ids, expected), (
            f"{when}: the right ids, but not nearest first: sort what the index and the new items gave together"
        )
        assert np.array_equal(ids, expected), (
            f"{when}: with {len(items)} items the answers are not the {k} nearest of all, nearest first"
        )
        assert np.allclose(distances, expected_distances, atol=1e-5), (
            f"{when}: right ids, but wrong distances"
        )
