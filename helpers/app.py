"""A page on which a person searches with a picture: the engine behind it, the page, and the server.

    python -m helpers.app            then open the address that it prints
    python -m helpers.app --help

The page is Gradio's. Everything that it needs is on this machine, and only this machine can open it unless `--host`
says otherwise.
"""

import argparse
import base64
import hashlib
import html
import io
import os
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from PIL import Image

from helpers.data import load
from helpers.networks import embed, embedding_network, load_pretrained
from helpers.photos import MAX_BYTES, PictureError, open_picture, prepare
from helpers.retrieval import nearest

with warnings.catch_warnings():
    # It is about progress bars, which the page does not show.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import gradio as gr

CACHE = Path.home() / ".cache" / "metric-learning-course"
PIXELS, UNTRAINED, TRAINED = "raw pixels", "untrained network", "trained network"
ANSWERS = 10


class Answer(NamedTuple):
    """One picture that a search found."""

    index: int  # in the gallery
    label: int
    distance: float


class Index(NamedTuple):
    """What one retriever searches in."""

    vectors: np.ndarray  # float32 (N, d)
    squares: np.ndarray  # float32 (N,), each vector's squared length
    to_vector: object  # images (B, height, width, channels) -> (B, d)


class SearchEngine:
    """A gallery, and several ways to search it exactly.

    Args:
        images: uint8 (N, height, width, channels), the gallery.
        labels: integers (N,).
        class_names: the name of each label.
    """

    def __init__(self, images, labels, class_names):
        self.images, self.labels, self.class_names = images, np.asarray(labels), tuple(class_names)
        self.indexes = {}

    def add(self, name, vectors, to_vector):
        """Add a retriever.

        Args:
            name: what the page calls it.
            vectors: (N, d), the gallery's.
            to_vector: the function that made them, for queries; images (B, …) -> (B, d).
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        self.indexes[name] = Index(vectors, np.einsum("nd,nd->n", vectors, vectors), to_vector)

    def search(self, image, retriever, classes=(), without=None, k=ANSWERS):
        """The k pictures of the gallery that are nearest to a picture, nearest first.

        Args:
            image: uint8 (height, width, channels).
            retriever: a name that was added.
            classes: labels to search among; none means all.
            without: the index of a gallery picture that is no answer, because it is the query.
            k: answers, fewer if fewer pictures are searched.

        Returns:
            A list of `Answer`, empty if there is no picture to search: `classes` have none, or only the query itself.
        """
        vectors, squares, to_vector = self.indexes[retriever]
        query = np.asarray(to_vector(image[None]), np.float32)  # (1, d)
        rough = squares - 2 * (vectors @ query[0])  # (N,), the squared distance less the query's own square
        if len(classes):
            rough[~np.isin(self.labels, classes)] = np.inf
        if without is not None:
            rough[without] = np.inf
        candidates = np.flatnonzero(rough < np.inf)
        if len(candidates) == 0:
            return []
        # Rounding moves a picture by a place or two: fetch some more, then compare exactly.
        if len(candidates) > k + 22:
            candidates = np.sort(np.argpartition(rough, k + 22)[: k + 22])
        k = min(k, len(candidates))
        distances, order = nearest(query, vectors[candidates], k)
        found = candidates[order[0]]
        return [
            Answer(int(i), int(self.labels[i]), float(d)) for i, d in zip(found, distances[0], strict=True)
        ]


def build_engine(count=60_000, cache=CACHE, report=print):
    """The course's engine: Fashion-MNIST's training images by raw pixels, an untrained and the shipped network.

    The embeddings are kept in a folder, so that only the first start takes its time. A file belongs to the very network
    and the very images that made it; it is read without unpickling, and one that does not fit is made anew.

    Args:
        count: how many images of the gallery to use, the first ones.
        cache: the folder, or `None` to keep nothing.
        report: called with a line of text whenever there is progress.
    """
    data = load("fashion_mnist")
    images = data.x_train[:count]
    engine = SearchEngine(images, data.y_train[:count], data.class_names)
    engine.add(PIXELS, as_pixels(images), as_pixels)
    keras.utils.set_random_seed(0)
    for name, network in ((UNTRAINED, embedding_network()), (TRAINED, load_pretrained())):
        engine.add(name, _cached_embeddings(name, network, images, cache, report), single(network))
    return engine


def as_pixels(images):
    """Images (N, height, width, channels) as float32 rows (N, height · width · channels)."""
    return images.reshape(len(images), -1).astype(np.float32)


def single(network):
    """A function that embeds a few images at once, quickly, from any thread."""
    lock = threading.Lock()

    def to_vector(images):
        with lock:
            return np.asarray(network.predict_on_batch(images))

    to_vector(np.zeros((1, *network.input_shape[1:]), np.uint8))  # compiled now, not at the first question
    return to_vector


def _cached_embeddings(name, network, images, cache, report):
    path = None
    if cache is not None:
        marks = hashlib.sha256(images.tobytes())
        for weight in network.get_weights():
            marks.update(weight.tobytes())
        path = Path(cache) / f"{marks.hexdigest()[:32]}.npy"
        vectors = _read_embeddings(path, (len(images), network.output_shape[1]))
        if vectors is not None:
            report(f"{name}: index read, {len(images):,} pictures")
            return vectors
    parts = []
    for start in range(0, len(images), 10_000):
        parts.append(embed(network, images[start : start + 10_000]))
        report(f"{name}: {min(start + 10_000, len(images)):,} of {len(images):,} pictures embedded")
    vectors = np.concatenate(parts)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A start that is interrupted leaves no half index under the name that is looked for.
            partial = path.with_suffix(f".{os.getpid()}.part")
            with partial.open("wb") as file:
                np.save(file, vectors, allow_pickle=False)
            partial.replace(path)
        except OSError as error:
            report(f"{name}: the index could not be kept for the next start ({error.strerror})")
    return vectors


def _read_embeddings(path, shape):
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = vectors.shape == shape and vectors.dtype == np.float32 and np.isfinite(vectors).all()
    return vectors if fits else None


# The page. Two of its parts are Gradio's custom HTML: pictures that are buttons, with a name that a screen reader can
# read, and a canvas for mouse, finger and arrow keys.

CSS = """
.gradio-container { width: 100%; max-width: min(72rem, 100%) !important; margin: auto; }
.pictures ol { list-style: none; display: grid; gap: .5rem; margin: 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); max-width: 38rem; }
.pictures.small ol { grid-template-columns: repeat(auto-fill, minmax(3.6rem, 1fr)); }
.pictures li { margin: 0; padding: 0; }
.pictures button, .pictures figure { display: block; box-sizing: border-box; margin: 0; padding: .3rem; width: 100%;
  height: 100%; text-align: center; border: 2px solid #5a6472; border-radius: .4rem; background: #fff; color: #1b1f24;
  font-size: .875rem; font-weight: 400; line-height: 1.3; }
.pictures button { cursor: pointer; }
.pictures button:hover { border-color: #0072b2; }
.pictures img { display: block; margin: 0 0 .2rem; width: 100%; aspect-ratio: 1; object-fit: contain;
  image-rendering: pixelated; }
.pictures strong, .pictures figcaption { display: block; color: inherit; font-weight: 600; }
.pictures figcaption { font-weight: 400; }
.gradio-container .html-container { padding: 0; }
#message p { font-size: 1.05rem; font-weight: 600; min-height: 1.6rem; color: var(--body-text-color); }
.drawing canvas { display: block; width: min(280px, 100%); border: 2px solid #5a6472; background: #fff;
  touch-action: none; cursor: crosshair; }
.drawing button { margin: .5rem .5rem 0 0; padding: .5rem .9rem; border: 2px solid #5a6472; border-radius: .4rem;
  background: #fff; color: #1b1f24; }
.drawing button.search { background: #005a8c; border-color: #005a8c; color: #fff; }
.gradio-container button:focus-visible, canvas:focus-visible, input:focus-visible {
  outline: 3px solid #0072b2 !important; outline-offset: 2px; }
.gradio-container input[type=radio], .gradio-container input[type=checkbox] { border-color: #5a6472; }
.gradio-container button[role=tab] { color: var(--body-text-color); text-decoration-thickness: 2px; }
"""

SELECT_ON_CLICK = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-index]');
  if (button) { window.searchedFrom = element; trigger('select', {index: Number(button.dataset.index)}); }
});
watch('value', () => {
  const message = document.querySelector('#message');   // on a phone it may be far below
  if (message && message.getBoundingClientRect().top > window.innerHeight / 2) message.scrollIntoView();
  if (window.searchedFrom === element) {   // the button that had the focus is gone: go on from the first answer
    window.searchedFrom = null;
    const first = element.querySelector('button'); if (first) first.focus();
  }
});
"""

# A group of choices is announced with its label, which Gradio shows but does not tie to the group.
NAME_GROUPS = """() => document.querySelectorAll('fieldset').forEach(
  group => group.setAttribute('aria-label', group.querySelector('[data-testid=block-info]').innerText))"""

CANVAS = """
<canvas width="280" height="280" tabindex="0" role="application"
  aria-label="Canvas. Draw with mouse or finger. With the keyboard: arrow keys move, space puts the pen down or up.">
</canvas>
<button type="button" class="search">Search with the drawing</button><button type="button" class="clear">Clear</button>
"""

DRAW = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let x = 140, y = 140, down = false;
function clear() { pen.fillStyle = '#fff'; pen.fillRect(0, 0, 280, 280); x = y = 140; down = false; }
function lineTo(newX, newY) {
  pen.lineWidth = 22; pen.lineCap = 'round'; pen.strokeStyle = '#222';
  pen.beginPath(); pen.moveTo(x, y); pen.lineTo(newX, newY); pen.stroke(); x = newX; y = newY;
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
}
canvas.addEventListener('pointerdown', event => {
  canvas.setPointerCapture(event.pointerId); [x, y] = place(event); down = true; lineTo(x, y);
});
canvas.addEventListener('pointermove', event => { if (down && event.buttons) lineTo(...place(event)); });
canvas.addEventListener('pointerup', () => { down = false; });
canvas.addEventListener('keydown', event => {
  const step = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]}[event.key];
  if (event.key === ' ') { down = !down; if (down) lineTo(x, y); event.preventDefault(); }
  if (step) {
    const next = [Math.min(280, Math.max(0, x + step[0])), Math.min(280, Math.max(0, y + step[1]))];
    if (down) lineTo(...next); else [x, y] = next;
    event.preventDefault();
  }
});
element.querySelector('.clear').addEventListener('click', clear);
element.querySelector('.search').addEventListener('click', () => {
  trigger('submit', {picture: canvas.toDataURL('image/png')});
});
clear();
"""


def build_page(engine, samples, sample_names, log=None):
    """The page as Gradio blocks, not yet served.

    Args:
        engine: a `SearchEngine`.
        samples: uint8 images (n, height, width, channels) that a visitor can pick to ask with.
        sample_names: what each of them shows.
        log: called, if given, with the retriever's name and the distance of the nearest answer after each search among
            all classes with a visitor's own picture; possibly from several threads.
    """
    names = list(engine.class_names)

    def search(image, retriever, chosen, own=True, without=None):
        """`engine.search`; how far the nearest of all is from a visitor's own picture is logged."""
        answers = engine.search(image, retriever, chosen, without)
        if log and own and not chosen:
            log(retriever, answers[0].distance)
        return answers

    def answer(query, retriever, classes):
        """(query, …) -> the answers' HTML and a sentence."""
        if query is None:
            return "", "Give a picture: upload one, draw one or pick one."
        if retriever not in engine.indexes:
            raise gr.Error("There is no such way to search.")
        chosen = [names.index(name) for name in classes if name in names]
        answers = search(query["image"], retriever, chosen, query["own"], query["without"])
        among = f" among {', '.join(names[label] for label in chosen)}" if chosen else ""
        if not answers:
            return "", f"{query['remark']} There is nothing to show: no other picture{among}.".strip()
        sentence = f"{query['remark']} The {len(answers)} nearest pictures by {retriever}{among}:"
        return _answer_buttons(answers, engine), sentence.strip()

    def ask(picture, retriever, classes, name, remarks=()):
        """An RGB picture of a stranger -> query, its steps' HTML, the answers' HTML, a sentence."""
        steps = prepare(picture)
        image = list(steps.values())[-1][..., None]
        remark = " ".join([f"Searched with {name}.", *remarks])
        query = {"image": image, "own": True, "without": None, "remark": remark}
        return query, _step_pictures(steps), *answer(query, retriever, classes)

    def refused(error):
        return None, "", "", str(error)

    def on_upload(path, retriever, classes):
        if path is None:
            return refused("Give a picture: upload one, draw one or pick one.")
        try:
            picture, remarks = open_picture(path)
            return ask(picture, retriever, classes, "your picture", remarks)
        except PictureError as error:
            return refused(error)

    def on_draw(retriever, classes, event: gr.EventData):
        try:
            picture, _ = open_picture(_from_data_url(event.picture))
            return ask(picture, retriever, classes, "your drawing")
        except PictureError as error:
            empty = "even surface" in str(error)
            return refused("The drawing is empty: draw something first." if empty else error)

    def on_pick(retriever, classes, event: gr.EventData):
        i = _checked_index(event.index, len(samples))
        query = {
            "image": samples[i],
            "own": False,
            "without": None,
            "remark": f"Searched with a picture of: {sample_names[i]}.",
        }
        return query, _query_picture(samples[i], sample_names[i]), *answer(query, retriever, classes)

    def on_answer(retriever, classes, event: gr.EventData):
        i = _checked_index(event.index, len(engine.images))
        image, name = engine.images[i], names[engine.labels[i]]
        remark = f"Searched on from an answer: {name}."
        query = {"image": image, "own": False, "without": i, "remark": remark}
        return query, _query_picture(image, name), *answer(query, retriever, classes)

    def search_by_program(picture: str, retriever: str, classes: list[str]) -> list[dict]:
        """Search with a picture from a program.

        Args: the picture as a data URL or base64, the retriever's name, class names to search among (none: all).
        Returns: a list of {"index", "class", "distance"}, nearest first.
        """
        if retriever not in engine.indexes or not set(classes) <= set(names):
            raise gr.Error("There is no such retriever or class.")
        try:
            image = list(prepare(open_picture(_from_data_url(picture))[0]).values())[-1][..., None]
        except PictureError as error:
            raise gr.Error(str(error), print_exception=False) from error
        answers = search(image, retriever, [names.index(name) for name in classes])
        return [
            {"index": a.index, "class": names[a.label], "distance": round(a.distance, 4)} for a in answers
        ]

    # Without analytics: no version check, no usage statistics.
    with gr.Blocks(title="Search with a picture", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gr.Markdown(
            "# Search with a picture\n"
            f"Give a picture of a garment. The {ANSWERS} nearest of {len(engine.images):,} are shown; "
            "click one of them to search on from it."
        )
        query = gr.State(None)
        with gr.Row():
            with gr.Column(min_width=300, scale=2):
                with gr.Tabs():
                    with gr.Tab("Upload"):
                        upload = gr.File(
                            label="A picture file or a photograph",
                            file_types=["image"],
                            height=150,
                        )
                    with gr.Tab("Draw"):
                        drawing = gr.HTML(html_template=CANVAS, js_on_load=DRAW, elem_classes="drawing")
                    with gr.Tab("Pick"):
                        pick = gr.HTML(
                            _sample_buttons(samples, sample_names),
                            js_on_load=SELECT_ON_CLICK,
                            elem_classes="pictures small",
                        )
                retriever = gr.Radio(list(engine.indexes), value=list(engine.indexes)[-1], label="Search by")
                classes = gr.CheckboxGroup(names, label="Only among these classes (none: all)")
            with gr.Column(min_width=300, scale=3):
                message = gr.HTML(
                    "Give a picture: upload one, draw one or pick one.",
                    html_template='<p role="status" aria-live="polite">${value}</p>',
                    js_on_load=None,
                    elem_id="message",
                )
                answers = gr.HTML("", js_on_load=SELECT_ON_CLICK, elem_classes="pictures", elem_id="answers")
                gr.Markdown("## What was searched with")
                steps = gr.HTML("", js_on_load=None, elem_classes="pictures", elem_id="steps")

        outputs = [query, steps, answers, message]
        private = {"api_visibility": "private", "show_progress": "minimal", "concurrency_limit": 2}
        settings = [retriever, classes]
        upload.change(on_upload, [upload, *settings], outputs, **private)
        drawing.submit(on_draw, settings, outputs, **private)
        pick.select(on_pick, settings, outputs, **private)
        answers.select(on_answer, settings, outputs, **private)
        for setting in settings:
            setting.change(answer, [query, *settings], [answers, message], **private)
        page.load(None, js=NAME_GROUPS, api_visibility="private")
        gr.api(search_by_program, api_name="search", concurrency_limit=2)
    return page


def log_to(path):
    """A `log` for `build_page` that appends a line to a file: time (UTC), retriever, distance; no picture."""
    lock = threading.Lock()

    def log(retriever, distance):
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with lock, Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{now}\t{retriever}\t{distance:.4f}\n")

    return log


def serve(page, host="127.0.0.1", port=None, **options):
    """Serve a page; `page.close()` ends it.

    Args:
        page: from `build_page`.
        host: the address to listen on. The default can be reached from this machine only; "0.0.0.0" opens the page to
            everybody on the network.
        port: the first free one from 7860 on by default.
        options: of `gradio.Blocks.launch`.

    Returns:
        The page's address.
    """
    # A visitor's pictures are not kept in the browser; Gradio reads this when it serves a page.
    os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
    # The browser's own fonts: none is fetched.
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    defaults = {
        "share": False,  # no tunnel, not on Colab either
        "quiet": True,
        "max_file_size": MAX_BYTES,
        "enable_monitoring": False,
        "footer_links": [],
        "theme": gr.themes.Default(primary_hue="blue", **fonts),
        "css": CSS,
    }
    return page.launch(server_name=host, server_port=port, **(defaults | options))[1]


def show_in_notebook(page, height=900):
    """Show a page that is served inside the notebook: in a frame, on Colab through Colab's own channel.

    Args:
        page: served by `serve` in this notebook's kernel.
        height: of the frame, in pixels.

    Returns:
        The display handle; its `update` puts something else in the frame's place.
    """
    from IPython.display import HTML, IFrame, display

    # On Colab the kernel's machine is far away, and the browser reaches it under another address.
    if gr.utils.colab_check():
        from google.colab import output

        channel = output.eval_js(f"google.colab.kernel.proxyPort({page.server_port})")
        page.app.root_path = channel  # where the page asks for its parts
        output.serve_kernel_port_as_iframe(page.server_port, height=str(height))
        return display(HTML("<p>The page runs above.</p>"), display_id=True)
    return display(IFrame(page.local_url, width="100%", height=height), display_id=True)


def sample_queries(data, each=2):
    """The first test images of each class, and their names: pictures that no gallery contains."""
    chosen = [
        i for label in range(len(data.class_names)) for i in np.flatnonzero(data.y_test == label)[:each]
    ]
    return data.x_test[chosen], [data.class_names[label] for label in data.y_test[chosen]]


def _from_data_url(text):
    """The bytes of a data URL or of plain base64."""
    try:
        return base64.b64decode(str(text).rpartition(",")[2], validate=True)
    except ValueError as error:
        raise PictureError("This is not a picture in base64.") from error


def _checked_index(value, count):
    if not isinstance(value, int) or not 0 <= value < count:
        raise gr.Error("There is no such picture.", print_exception=False)
    return value


def _img(image, alt):
    image = np.asarray(image)
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image).save(buffer, "PNG")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def distances_as_text(distances):
    """Distances as texts, with as many digits as tell different ones apart: two to four, none to two from 100 on."""
    first = 0 if max(distances, default=0) >= 100 else 2
    for digits in range(first, first + 3):
        texts = [f"{distance:,.{digits}f}" for distance in distances]
        if len(set(texts)) == len(set(distances)):
            break
    return texts


def _answer_buttons(answers, engine):
    items = []
    distances = distances_as_text([answer.distance for answer in answers])
    for rank, (answer, distance) in enumerate(zip(answers, distances, strict=True), 1):
        name = html.escape(engine.class_names[answer.label])
        picture = _img(engine.images[answer.index], engine.class_names[answer.label])
        label = f"Answer {rank}: {name}, distance {distance}. Search on from it."
        items.append(
            f'<li><button type="button" data-index="{answer.index}" aria-label="{label}">'
            f"{picture}<strong>{name}</strong>{distance}</button></li>"
        )
    return f'<ol aria-label="Answers, nearest first">{"".join(items)}</ol>'


def _sample_buttons(samples, sample_names):
    items = [
        f'<li><button type="button" data-index="{i}" aria-label="Search with this picture: {html.escape(name)}">'
        f"{_img(sample, name)}</button></li>"
        for i, (sample, name) in enumerate(zip(samples, sample_names, strict=True))
    ]
    return f'<ol aria-label="Pictures to search with">{"".join(items)}</ol>'


def _step_pictures(steps):
    figures = [
        f"<li><figure>{_img(step, f'Step: {name}')}<figcaption>{name}</figcaption></figure></li>"
        for name, step in steps.items()
    ]
    return f'<ol aria-label="How the picture was prepared, step by step">{"".join(figures)}</ol>'


def _query_picture(image, name):
    return (
        f"<ol><li><figure>{_img(image, name)}<figcaption>{html.escape(name)}</figcaption></figure></li></ol>"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m helpers.app", description="Search 60,000 pictures with a picture."
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 opens the page to the network (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument(
        "--images", type=int, default=60_000, help="how many to search, the first ones (default: all)"
    )
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="where the index is kept (default: %(default)s)"
    )
    parser.add_argument(
        "--log", type=Path, help="append to this file how far the nearest answer was (default: keep nothing)"
    )
    chosen = parser.parse_args(arguments)
    engine = build_engine(chosen.images, chosen.cache, report=lambda line: print(line, flush=True))
    log = log_to(chosen.log) if chosen.log else None
    page = build_page(engine, *sample_queries(load("fashion_mnist")), log=log)
    address = serve(page, chosen.host, chosen.port, prevent_thread_lock=True)
    print(f"The page is at {address} (Ctrl-C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
