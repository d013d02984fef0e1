"""A battery for the checks of lesson 11: wrong answers with their mistakes, right ones in other styles."""

import threading

import numpy as np
from battery import accepts, refuses
from sklearn.decomposition import PCA

from helpers.checks import lesson11 as check
from helpers.retrieval import nearest


def quantised(v, top=127, to=np.round, most=lambda v: np.abs(v).max(), clip=True, dtype=np.int8):
    scale = float(most(v)) / top
    codes = to(v / scale)
    codes = np.clip(codes, -127, 127) if clip else codes
    return codes.astype(np.int32).astype(dtype), scale


def shifted(v):
    scale = float(v.max() - v.min()) / 254
    return (np.round((v - v.min()) / scale) - 127).astype(np.int8), scale


def a_scale_for_each_column(v):
    scale = np.abs(v).max(axis=0) / 127
    return np.round(v / scale).astype(np.int8), scale


def inverse_scale(v):
    codes, scale = quantised(v)
    return codes, 1 / scale


def in_place(v):
    codes, scale = quantised(v)
    v /= scale
    return codes, scale


def quantised_in_a_list(v):
    scale = np.abs(v).max() / np.float32(127)
    return [[np.int8(max(-127, min(127, round(float(x) / float(scale))))) for x in row] for row in v], scale


def as_a_list(v):
    codes, scale = quantised_in_a_list(v)
    return [np.array(codes, np.int8), scale]


def quantised_in_float64(v):
    v = v.astype(np.float64)
    scale = max(v.max(), -v.min()) / 127
    return np.rint(v / scale).astype("i1"), np.float64(scale)


def quantised_by_floor(v):
    scale = np.array(np.abs(v).max() / 127.0)
    return np.floor(v / scale + 0.5).clip(-127, 127).astype(np.int8), scale


def recall(found, truth):
    return np.mean([len(np.intersect1d(f, t)) / len(t) for f, t in zip(found, truth, strict=True)])


def curve(query, gallery, dimensions, fit=None, mean=None, project=None, truth=None, measure=recall, k=10):
    of = gallery if fit is None else fit(query, gallery)
    vt = np.linalg.svd(of - (of.mean(axis=0) if mean is None else 0), full_matrices=False)[2]
    true = nearest(query, gallery, k)[1]
    result = {}
    for m in dimensions:
        turn = vt[:m].T if project is None else project(vt, m)
        q, g = (query - of.mean(axis=0)) @ turn, (gallery - of.mean(axis=0)) @ turn
        result[m] = measure(nearest(q, g, k)[1], true)
    return result


def curve_with(**more):
    return lambda query, gallery, dimensions: curve(query, gallery, dimensions, **more)


def own_means(query, gallery, dimensions):
    return curve(query - query.mean(axis=0) + gallery.mean(axis=0), gallery, dimensions) | {
        m: recall(
            nearest(
                (query - query.mean(0)) @ PCA(m).fit(gallery).components_.T, PCA(m).fit_transform(gallery), 10
            )[1],
            nearest(query, gallery, 10)[1],
        )
        for m in dimensions
    }


def whitened(query, gallery, dimensions):
    true = nearest(query, gallery, 10)[1]
    pcas = {m: PCA(m, whiten=True, svd_solver="full").fit(gallery) for m in dimensions}
    return {
        m: recall(nearest(p.transform(query), p.transform(gallery), 10)[1], true) for m, p in pcas.items()
    }


def truth_in_m(query, gallery, dimensions):
    return dict.fromkeys(dimensions, 1.0)


def two_fits(query, gallery, dimensions):
    true = nearest(query, gallery, 10)[1]
    fit = {m: (PCA(m).fit_transform(query), PCA(m).fit_transform(gallery)) for m in dimensions}
    return {m: recall(nearest(q, g, 10)[1], true) for m, (q, g) in fit.items()}


def curve_by_pca(query, gallery, dimensions):
    true = nearest(query, gallery, 10)[1].tolist()
    result = {}
    for m in dimensions:
        pca = PCA(n_components=m).fit(gallery)
        found = nearest(pca.transform(query), pca.transform(gallery), 10)[1].tolist()
        result[m] = sum(len(set(f) & set(t)) for f, t in zip(found, true, strict=True)) / (10 * len(query))
    return result


def curve_by_eigenvectors(query, gallery, dimensions):
    _, vectors = np.linalg.eigh(np.cov(gallery.T))
    true = nearest(query, gallery, 10)[1]
    return {
        m: np.float32(recall(nearest(query @ (v := vectors[:, ::-1][:, :m]), gallery @ v, 10)[1], true))
        for m in dimensions
    }


def curve_in_a_loop(query, gallery, dimensions):
    centred = gallery - gallery.mean(axis=0)
    vt = (
        np.linalg.svd(centred.astype(np.float64))[2]
        if len(centred) < 10
        else np.linalg.svd(centred.T @ centred)[2]
    )
    _, true = nearest(query, gallery, 10)
    shares = []
    for m in dimensions:
        q, g = (query - gallery.mean(axis=0)) @ vt[:m].T, centred @ vt[:m].T
        hits = 0
        for i, row in enumerate(nearest(q.astype(np.float32), g.astype(np.float32), 10)[1]):
            hits += np.isin(row, true[i]).sum()
        shares.append(np.array(hits / true.size))
    return dict(zip(dimensions, shares, strict=True))


def serve(
    vectors,
    build,
    lock=None,
    build_in_lock=False,
    copy_first=False,
    tail=True,
    sort=True,
    forget=False,
    twice=False,
    swap=True,
    offset=True,
    build_at_add=False,
    make=tuple,
):
    lock = lock or threading.Lock()
    everything = np.array(vectors, np.float32)
    state = [build(everything), everything, len(everything)]

    def search(query, k):
        index, items, indexed = state[0], state[1], state[2]
        distances, ids = index.search(query, min(k, indexed))
        begin = 0 if twice else indexed
        if tail and len(items) > begin and (len(items) > indexed or twice):
            fresh_distances, fresh = nearest(query, items[begin:], min(k, len(items) - begin))
            distances = np.concatenate([distances, fresh_distances], axis=1)
            ids = np.concatenate([ids, fresh + (begin if offset else 0)], axis=1)
        order = (
            np.lexsort((ids, distances), axis=1)
            if sort
            else np.arange(ids.shape[1])[None].repeat(len(ids), 0)
        )
        order = order[:, :k]
        return make((np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)))

    def add(more):
        with lock:
            items = np.concatenate([state[1], np.asarray(more, np.float32)])
            state[:] = [build(items), items, len(items)] if build_at_add else [state[0], items, state[2]]

    def rebuild():
        items = state[1]
        if build_in_lock:
            with lock:
                state[:] = [build(items), items, len(items)]
            return
        index = build(items)
        if swap:
            with lock:
                state[:] = [index, items if forget else state[1], len(items)]

    return make((search, add, rebuild))


class NoLock:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def serving(**more):
    return lambda vectors, build: serve(vectors, build, **more)


def adds_return_the_ids(vectors, build):
    search, add, rebuild = serve(vectors, build)
    return search, lambda more: (add(more), len(more))[1], rebuild


def serve_with_a_class(vectors, build):
    class Shop:
        def __init__(self):
            self.lock = threading.RLock()
            self.pieces = [np.asarray(vectors, np.float32)]
            self.now = build(self.pieces[0]), 1, len(vectors)  # index, pieces in it, items in it

        def search(self, query, k):
            with self.lock:
                (index, _, items), fresh = self.now, self.pieces[self.now[1] :]
            results = [index.search(query, min(k, items))]
            for piece in fresh:
                d, i = nearest(query, piece, min(k, len(piece)))
                results.append((d, i + items))
                items += len(piece)
            d, i = (np.concatenate(part, axis=1) for part in zip(*results, strict=True))
            best = d.argsort(axis=1, kind="stable")[:, :k]
            return np.take_along_axis(d, best, axis=1), np.take_along_axis(i, best, axis=1)

        def add(self, more):
            with self.lock:
                self.pieces.append(np.array(more, np.float32))

        def rebuild(self):
            with self.lock:
                pieces = list(self.pieces)
            items = np.concatenate(pieces)
            index = build(items)
            with self.lock:
                self.now = index, len(pieces), len(items)

    shop = Shop()
    return shop.search, shop.add, shop.rebuild


WRONG = {
    check.exercise_1: [
        (lambda v: quantised(v, top=128, clip=False), "127"),
        (lambda v: quantised(v, most=np.max, clip=False), "it has wrapped around"),
        (lambda v: quantised(v, most=np.std), "large numbers are cut off at 127"),
        (lambda v: quantised(v, top=100), "the largest code is 100"),
        (lambda v: quantised(v, to=np.trunc), "round to the nearest whole number"),
        (lambda v: quantised(v, to=np.floor), "round to the nearest whole number"),
        (lambda v: quantised(v, dtype=np.int16), "the codes should be int8, not int16"),
        (lambda v: quantised(v, dtype=np.uint8), "the codes should be int8, not uint8"),
        (lambda v: quantised(v)[0], "return two things"),
        (lambda v: quantised(v)[::-1], "expected codes of shape"),
        (shifted, "do not shift the values"),
        (a_scale_for_each_column, "one positive number for all"),
        (inverse_scale, "the step, not its inverse"),
        (in_place, "work on a copy"),
    ],
    check.exercise_2: [
        (curve_with(project=lambda vt, m: np.eye(len(vt))[:, :m]), "the first m columns"),
        (curve_with(project=lambda vt, m: vt[::-1][:m].T), "the *smallest* spread"),
        (curve_with(project=lambda vt, m: vt[:, :m]), "the rows of Vt"),
        (curve_with(mean=0), "the mean was not subtracted"),
        (curve_with(fit=lambda query, gallery: query), "those of the queries"),
        (
            curve_with(fit=lambda query, gallery: np.concatenate([query, gallery])),
            "gallery and queries together",
        ),
        (curve_with(k=1), "the share of first neighbours"),
        (curve_with(measure=lambda found, true: (found == true).mean()), "in the same order"),
        (curve_with(measure=lambda found, true: 10 * recall(found, true)), "shares lie between 0 and 1"),
        (own_means, "centred on their own mean"),
        (whitened, "whitened"),
        (two_fits, "in all 12 dimensions nothing is lost"),
        (truth_in_m, "the truth is the search in *all* dimensions"),
        (lambda q, g, ms: list(curve(q, g, ms).values()), "return a dictionary"),
    ],
    check.exercise_3: [
        (serving(lock=NoLock()), "Hold a lock from reading to writing"),
        (serving(build_in_lock=True), "waits for the rebuild"),
        (serving(tail=False), "after add, before any rebuild"),
        (serving(sort=False), "nearest of all, nearest first"),
        (serving(forget=True), "after the rebuild (10 items came during it)"),
        (serving(twice=True), "found twice"),
        (serving(swap=False), "after a rebuild the new index should answer"),
        (serving(offset=False), "after add, before any rebuild"),
        (serving(build_at_add=True), "add should not build"),
        (lambda vectors, build: serve(vectors, build)[:2], "return three functions"),
        (lambda vectors, build: (*serve(vectors, build)[:2], None), "return three functions"),
        (lambda vectors, build: serve(vectors[:10], build), "build the first index at once"),
    ],
}
RIGHT = {
    check.exercise_1: [quantised, as_a_list, quantised_in_float64, quantised_by_floor],
    check.exercise_2: [curve, curve_by_pca, curve_by_eigenvectors, curve_in_a_loop],
    check.exercise_3: [serve, serving(make=list), adds_return_the_ids, serve_with_a_class],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
