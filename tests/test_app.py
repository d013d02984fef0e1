"""The search engine against a naive search, and the page's server against strangers."""

import base64
import html
import http.client
import io
import json
import re
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from helpers import app
from helpers.app import Answer, SearchEngine, build_page, serve

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (300, 28, 28, 1), dtype=np.uint8)
LABELS = np.arange(300) % 5
NAMES = ("shoe", "hat", "<b>", "bag & belt", 'a "coat"')


def make_engine():
    engine = SearchEngine(IMAGES, LABELS, NAMES)
    engine.add("raw pixels", app.as_pixels(IMAGES), app.as_pixels)
    engine.add("mean", IMAGES.mean(axis=(1, 2)), lambda images: images.mean(axis=(1, 2)))
    return engine


def naive(query, vectors, allowed, k):
    distances = np.sqrt(((vectors.astype(np.float64) - query) ** 2).sum(axis=1))
    order = sorted(allowed, key=lambda i: (distances[i], i))[:k]
    return [(i, distances[i]) for i in order]


@pytest.mark.parametrize("classes", [(), (2,), (0, 3)])
@pytest.mark.parametrize("without", [None, 7, 12])
@pytest.mark.parametrize("k", [1, 10, 59, 1000])
def test_search_agrees_with_a_naive_search(classes, without, k):
    engine = make_engine()
    image = IMAGES[12]
    allowed = [i for i in range(300) if (not classes or LABELS[i] in classes) and i != without]
    expected = naive(image.reshape(-1).astype(float), IMAGES.reshape(300, -1), allowed, k)
    answers = engine.search(image, "raw pixels", classes, without, k)
    assert [a.index for a in answers] == [i for i, _ in expected]
    assert np.allclose([a.distance for a in answers], [d for _, d in expected], rtol=1e-6)
    assert all(a.label == LABELS[a.index] for a in answers)


def test_a_copy_is_at_distance_zero_and_ties_are_in_order():
    images = np.repeat(IMAGES[:3], 50, axis=0)
    engine = SearchEngine(images, np.arange(150), [str(i) for i in range(150)])
    engine.add("raw pixels", app.as_pixels(images), app.as_pixels)
    answers = engine.search(IMAGES[1], "raw pixels")
    assert [a.distance for a in answers] == [0.0] * 10
    assert engine.search(IMAGES[1], "raw pixels", classes=[55, 52], k=5)[0] == Answer(52, 52, 0.0)


def test_embeddings_are_kept_read_again_and_never_trusted(tmp_path):
    class Network:
        input_shape, output_shape = (None, 28, 28, 1), (None, 3)

        def __init__(self, seed):
            self.weights = np.random.default_rng(seed).normal(size=(784, 3)).astype(np.float32)

        def get_weights(self):
            return [self.weights]

        def predict(self, images, batch_size, verbose):
            return images.reshape(len(images), -1) @ self.weights

    lines = []

    def load(seed=0, images=IMAGES, cache=tmp_path / "new" / "folder"):
        lines.clear()
        return app._cached_embeddings("n", Network(seed), images, cache, lines.append)

    first = load()
    assert lines == ["n: 300 of 300 pictures embedded"]
    assert np.array_equal(load(), first) and lines == ["n: index read, 300 pictures"]
    (path,) = (tmp_path / "new" / "folder").iterdir()  # and no half-written file beside it
    for damage in (
        lambda: path.write_bytes(path.read_bytes()[:100]),
        lambda: path.write_bytes(b""),
        lambda: np.save(path, np.zeros((300, 4), np.float32)),
        lambda: np.save(path, np.full((300, 3), np.nan, np.float32)),
        lambda: np.save(path, np.array([print], dtype=object), allow_pickle=True),
    ):
        damage()
        assert np.array_equal(load(), first) and "embedded" in lines[0]
    assert (
        not np.array_equal(load(seed=1), first) and "embedded" in lines[0]
    )  # another network, another index
    load(images=IMAGES[::-1])
    assert "embedded" in lines[0]
    load(cache=None)
    assert "embedded" in lines[0] and len(list((tmp_path / "new" / "folder").iterdir())) == 3
    (tmp_path / "file").write_text("", encoding="utf-8")
    load(cache=tmp_path / "file" / "folder")  # a place that cannot be written to
    assert "could not be kept" in lines[-1]


@pytest.fixture(scope="module")
def address():
    page = build_page(make_engine(), IMAGES[:3], ["one", "two", "three"])
    yield serve(page, prevent_thread_lock=True, inline=False)
    page.close(verbose=False)


def data_url(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


DARK_SQUARE = np.pad(np.zeros((30, 30), np.uint8), 40, constant_values=250)


def test_program_searches_and_is_told_what_is_wrong(address):
    client = Client(address, verbose=False)
    answers = client.predict(data_url(DARK_SQUARE), "raw pixels", ["shoe"], api_name="/search")
    assert len(answers) == 10 and {a["class"] for a in answers} == {"shoe"}
    assert [a["distance"] for a in answers] == sorted(a["distance"] for a in answers)
    for picture, retriever, classes, message in (
        (data_url(np.full((9, 9), 255, np.uint8)), "raw pixels", [], "one even surface"),
        ("no base64!", "raw pixels", [], "not a picture in base64"),
        (base64.b64encode(b"text").decode(), "raw pixels", [], "not a picture that can be read"),
        (data_url(DARK_SQUARE), "magic", [], "no such retriever"),
        (data_url(DARK_SQUARE), "raw pixels", ["no class"], "no such retriever or class"),
    ):
        with pytest.raises(AppError, match=message):
            client.predict(picture, retriever, classes, api_name="/search")
    assert len(client.predict(data_url(DARK_SQUARE), "mean", [], api_name="/search")) == 10  # still up


def test_what_is_logged_is_the_distance_of_the_nearest_answer_among_all():
    logged, engine = [], make_engine()
    page = build_page(engine, IMAGES[:1], ["one"], log=lambda *line: logged.append(line))
    client = Client(serve(page, prevent_thread_lock=True, inline=False), verbose=False)
    try:
        first = client.predict(data_url(DARK_SQUARE), "mean", [], api_name="/search")[0]
        client.predict(data_url(DARK_SQUARE), "mean", ["shoe"], api_name="/search")  # farther by choice
        with pytest.raises(AppError):
            client.predict("no base64!", "mean", [], api_name="/search")
        ((retriever, distance),) = logged
        assert retriever == "mean" and round(distance, 4) == first["distance"]
    finally:
        page.close(verbose=False)


def request(address, method, path, body=None):
    """A request as written: no client in between that would tidy up its path."""
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read().decode("utf-8", "replace")


def test_no_file_of_the_server_can_be_reached(address, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the-secret", encoding="utf-8")
    source = app.__file__
    targets = [
        str(secret),
        source,
        "helpers/app.py",
        "pyproject.toml",
        "../pyproject.toml",
        "C:/Windows/win.ini",
    ]
    for target in targets:
        for spelling in (
            target,
            target.replace("/", "%2f"),
            "../" * 12 + target.lstrip("/"),
            "%2e%2e/" * 12 + target.lstrip("/"),
        ):
            for route in (
                "/gradio_api/file=",
                "/file=",
                "/gradio_api/file/",
                "/static/",
                "/assets/",
                "/gradio_api/stream/",
                "/",
            ):
                status, text = request(address, "GET", route + spelling)
                assert "the-secret" not in text and "def build_page" not in text and "[project]" not in text
                assert status in (200, 307, 400, 403, 404, 405), (
                    status,
                    route,
                    spelling,
                )  # 200: the page itself
                assert status != 200 or "<html" in text.lower()


def test_no_file_is_read_as_if_it_had_been_uploaded(address, tmp_path):
    """Even a picture that lies on the server is not opened for somebody who only names its path."""
    (tmp_path / "private.png").write_bytes(base64.b64decode(data_url(DARK_SQUARE).partition(",")[2]))
    config = json.loads(request(address, "GET", "/config")[1])
    upload = next(c["id"] for c in config["components"] if c["type"] == "file")
    event = next(d for d in config["dependencies"] if [upload, "change"] in d["targets"])
    for path in (str(tmp_path / "private.png"), f"{address}gradio_api/info", "http://localhost/x.png"):
        file = {"path": path, "orig_name": "private.png", "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file, "raw pixels", []], "fn_index": event["id"], "session_hash": "stranger"}
        status, text = request(address, "POST", "/gradio_api/queue/join", json.dumps(body))
        if status == 200:
            _, text = request(address, "GET", "/gradio_api/queue/data?session_hash=stranger")
            last = json.loads(
                [x for x in text.splitlines() if x.startswith("data:") and "process_completed" in x][-1][5:]
            )
            assert not last["success"], path
        assert "Answers, nearest first" not in text


def test_page_listens_on_this_machine_only_and_fetches_nothing(address):
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    assert host == "127.0.0.1"
    with socket.socket() as other:  # another address of this very machine
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", int(port))) != 0
    config = json.loads(request(address, "GET", "/config")[1])
    assert config["analytics_enabled"] is False and not config["stylesheets"]


def test_open_to_the_network_only_when_asked(monkeypatch):
    launched = []

    class Page:
        def launch(self, **options):
            launched.append(options)
            return None, "address", None

    assert serve(Page()) == "address"
    serve(Page(), host="0.0.0.0", port=8000, share=True)
    assert launched[0]["server_name"] == "127.0.0.1" and launched[0]["share"] is False
    assert launched[1]["server_name"] == "0.0.0.0" and launched[1]["server_port"] == 8000
    assert not launched[0].get("allowed_paths")


def test_page_in_a_notebook_and_on_colab(monkeypatch):
    shown, asked = [], []
    monkeypatch.setattr("IPython.display.display", lambda what, display_id: shown.append(what) or "handle")
    page = build_page(make_engine(), IMAGES[:1], ["one"])
    address = serve(page, prevent_thread_lock=True, inline=False)
    try:
        assert app.show_in_notebook(page, height=700) == "handle"
        assert (shown[0].src, shown[0].height) == (address, 700) and page.app.root_path == ""

        output = SimpleNamespace(
            eval_js=lambda code: asked.append(code) or "https://a-channel.colab.dev/",
            serve_kernel_port_as_iframe=lambda port, height: asked.append((port, height)),
        )
        monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
        monkeypatch.setattr(app.gr.utils, "colab_check", lambda: True)
        assert app.show_in_notebook(page) == "handle"
        port = page.server_port
        assert asked == [f"google.colab.kernel.proxyPort({port})", (port, "900")]
        # The browser is told to fetch the page's parts through the channel; a program on the machine still searches.
        assert json.loads(request(address, "GET", "/config")[1])["root"] == "https://a-channel.colab.dev"
        client = Client(address, verbose=False)
        assert len(client.predict(data_url(DARK_SQUARE), "mean", [], api_name="/search")) == 10
    finally:
        page.close(verbose=False)


def test_names_are_escaped_and_every_picture_has_one():
    engine = make_engine()
    text = app._answer_buttons([Answer(i, i, 1234.5) for i in range(5)], engine)
    for name in NAMES:
        assert html.escape(name) in text
    assert "<b>" not in text and text.count("<img alt=") == text.count("<button") == 5
    assert "distance 1,234" in text
    assert 'alt=""' not in text


@pytest.mark.parametrize(
    ("distances", "texts"),
    [
        ([0.1, 0.21], ["0.10", "0.21"]),
        ([0.0101, 0.0122], ["0.010", "0.012"]),
        ([0.01234, 0.01236, 0.5], ["0.0123", "0.0124", "0.5000"]),
        ([0.123456, 0.123457], ["0.1235", "0.1235"]),  # four digits are the most
        ([0.5, 0.5], ["0.50", "0.50"]),
        ([1234.5, 99.0], ["1,234", "99"]),
        ([1234.5, 1234.4], ["1,234.5", "1,234.4"]),
        ([], []),
    ],
)
def test_distances_have_as_many_digits_as_tell_them_apart(distances, texts):
    assert app.distances_as_text(distances) == texts


def test_command_line(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(
        app, "build_engine", lambda count, cache, report: seen.update(count=count, cache=cache)
    )
    monkeypatch.setattr(
        app,
        "build_page",
        lambda engine, *samples, log: seen.update(log=log) or SimpleNamespace(block_thread=lambda: None),
    )
    monkeypatch.setattr(app, "serve", lambda page, host, port, **options: seen.update(host=host, port=port))
    app.main(["--images", "500", "--port", "8001"])
    assert seen == {"count": 500, "cache": app.CACHE, "host": "127.0.0.1", "port": 8001, "log": None}
    app.main(["--log", str(tmp_path / "log.tsv")])
    seen["log"]("raw pixels", 0.12345)
    seen["log"]("raw pixels", 2)
    lines = (tmp_path / "log.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[1:] for line in lines] == [["raw pixels", "0.1235"], ["raw pixels", "2.0000"]]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\t", line) for line in lines)


# Nothing left to search


def engine_of(labels):
    engine = SearchEngine(IMAGES[: len(labels)], labels, NAMES)
    engine.add("raw pixels", app.as_pixels(IMAGES[: len(labels)]), app.as_pixels)
    return engine


@pytest.mark.parametrize(
    ("classes", "without", "expected"),
    [((4,), None, []), ((3, 4), 2, []), ((3,), 2, []), ((3,), None, [2]), ((3, 4), 0, [2]), ((), 2, [0, 1])],
)
def test_search_without_candidates_finds_nothing(classes, without, expected):
    answers = engine_of([0, 0, 3]).search(IMAGES[0], "raw pixels", classes, without)
    assert [a.index for a in answers] == expected


def test_only_picture_of_all_finds_nothing():
    assert engine_of([0]).search(IMAGES[0], "raw pixels", without=0) == []


def test_program_is_given_an_empty_list_for_a_class_without_pictures():
    page = build_page(engine_of([0, 0, 3]), IMAGES[:1], ["one"])
    client = Client(serve(page, prevent_thread_lock=True, inline=False), verbose=False)
    try:
        assert client.predict(data_url(DARK_SQUARE), "raw pixels", ["hat"], api_name="/search") == []
        found = client.predict(data_url(DARK_SQUARE), "raw pixels", ["bag & belt"], api_name="/search")
        assert [answer["index"] for answer in found] == [2]
    finally:
        page.close(verbose=False)
