"""The pictures that recur, each shown with a text for readers who cannot see it.

Importing this module starts no deep-learning framework.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Image, display

RIGHT, WRONG = "#0072b2", "#d55e00"  # blue and vermilion: distinct for colour-blind readers too
CLASS_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")


def show(figure, alt):
    """Display a Matplotlib figure as a PNG with alternative text, then close it.

    Args:
        figure: a `matplotlib.figure.Figure`.
        alt: what the figure shows, in a sentence or two, for those who hear it instead of seeing it.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt or not alt.strip():
        plt.close(figure)  # or the notebook would show it all the same
        raise ValueError("Say in `alt` what the figure shows.")
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight", facecolor="white")
    finally:
        plt.close(figure)
    display(Image(buffer.getvalue(), alt=alt))


def show_images(images, titles=None, columns=10, title=None, alt=None):
    """Show images in a grid, row by row.

    Grey bytes (uint8) are drawn from 0, white, to 255, black; of other grey numbers each image is stretched from its
    smallest to its largest. Colour is drawn from 0 to 255, the networks' range, whether it is stored as bytes, other
    integers or floats; from 0 to 1 if the floats of all images end there (none above 2, as a little overshoot may be);
    from 0 to 65,535 if some integer is above 255. What overshoots is cut off.

    Args:
        images: array (N, height, width, 1) or (N, height, width) grey, or (N, height, width, 3) colour.
        titles: a text above each image, N of them. All texts are shown letter by letter: `$` starts no formula.
        columns: images in a row.
        title: a text above the whole grid.
        alt: alternative text; by default made of the titles.

    Raises:
        ValueError: no images, not as many titles as images, or colours that are not finite or far below 0.
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(f"images must be (N, height, width[, channels]) with N ≥ 1, not {images.shape}.")
    if images.ndim == 3 and images.shape[-1] == 1:
        raise ValueError(
            f"{images.shape} is one image: show it as a list of one, `show_images(image[None])`."
        )
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} images but {len(titles)} titles: give one title for each image.")
    images = _drawable(images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.1 * columns, (1.35 if titles is not None else 1.1) * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        _draw_image(axis, image)
        if titles is not None:
            axis.set_title(str(titles[i]), fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, parse_math=False)
    figure.tight_layout()
    show(
        figure,
        alt or f"{len(images)} images" + (f": {', '.join(map(str, titles))}." if titles is not None else "."),
    )


def show_retrieval(queries, query_labels, answers, answer_labels, class_names, title, alt, distances=None):
    """One strip for each query: the query, a gap, then its answers, nearest first; right in blue, wrong in vermilion.

    Right and wrong also differ in the line of the frame, solid or dashed, so that colour is not needed.

    Args:
        queries: images (n, height, width, channels), drawn as by `show_images`.
        query_labels: integers (n,).
        answers: images (n, k, height, width, channels).
        answer_labels: integers (n, k).
        class_names: the name of each label, 0 … C−1.
        title: the finding.
        alt: alternative text.
        distances: (n, k), written below each answer; `None` writes none.

    Raises:
        ValueError: queries, answers and their labels do not fit together, or a label is no integer or has no name.
    """
    query_labels, answer_labels = np.asarray(query_labels).reshape(-1), np.asarray(answer_labels)
    if answer_labels.ndim != 2 or np.shape(answers)[:2] != answer_labels.shape:
        raise ValueError(
            f"answers {np.shape(answers)} and answer_labels {answer_labels.shape} must both begin (n, k)."
        )
    n, k = answer_labels.shape
    if n == 0 or len(queries) != n or len(query_labels) != n:
        raise ValueError(f"{len(queries)} queries and {len(query_labels)} labels, but answers for {n}.")
    query_names, answer_names = (_names(labels, class_names) for labels in (query_labels, answer_labels))
    queries, answers = _drawable(queries, answers)
    figure, axes = plt.subplots(n, k + 2, figsize=(1.1 * (k + 2), 1.65 * n), squeeze=False,
                                width_ratios=[1, 0.25] + [1] * k)  # fmt: skip
    for row, strip in enumerate(axes):
        strip[1].axis("off")
        _draw_image(strip[0], queries[row])
        strip[0].set_title(query_names[query_labels[row]], fontsize=8, fontweight="bold", parse_math=False)
        for column, axis in enumerate(strip[2:]):
            _draw_image(axis, answers[row][column])
            is_right = answer_labels[row][column] == query_labels[row]
            axis.set_title(answer_names[answer_labels[row][column]], fontsize=8,
                           color=RIGHT if is_right else WRONG, parse_math=False)  # fmt: skip
            for side in axis.spines.values():
                side.set(visible=True, linewidth=2.5, color=RIGHT if is_right else WRONG,
                         capstyle="butt", linestyle="-" if is_right else (0, (2, 1)))  # fmt: skip
            if distances is not None:
                axis.set_xlabel(f"{distances[row][column]:.2f}", fontsize=8)
    figure.suptitle(title, parse_math=False)
    figure.tight_layout()
    show(figure, alt)


def plot_embedding(points, labels, title=None, class_names=None, axis=None, alt=None):
    """Scatter two-dimensional points, a colour and a marker for each class.

    Up to a hundred classes all look different, the first ten of them in colour and in marker. A label keeps its look
    from map to map, unless two labels of one map are a multiple of 100 apart: then the looks go by their order.

    Args:
        points: array (N, 2).
        labels: integers (N,) or (N, 1).
        title: the finding. It and the names are shown letter by letter: `$` starts no formula.
        class_names: the name of each label, 0 … C−1, for the legend; by default the labels themselves, any integers.
        axis: a Matplotlib axis to draw on, without legend; by default a new figure is drawn and shown.
        alt: alternative text of the new figure; by default made of the title and the classes.

    Raises:
        ValueError: points that are not (N, 2) or not finite, no points, not as many labels as points, or a label that
            is no integer or has no name.
    """
    points, labels = np.asarray(points), np.asarray(labels).reshape(-1)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels) or len(points) == 0:
        raise ValueError(
            f"points must be (N, 2) with N labels, not {points.shape} with {len(labels)} labels."
        )
    if not np.isfinite(points).all():
        raise ValueError("points contains NaN or infinity: such points cannot be drawn.")
    names = _names(labels, class_names)  # in ascending order of the labels
    looks = np.array(list(names)) % 100
    if len(set(looks)) < len(looks):
        looks = np.arange(len(looks)) % 100
    figure = None
    if axis is None:
        figure, axis = plt.subplots(figsize=(7, 6))
    palette = sns.color_palette("colorblind")
    for (label, name), look in zip(names.items(), looks, strict=True):
        colour, marker = palette[look % 10], CLASS_MARKERS[(look + look // 10) % 10]
        axis.scatter(
            *points[labels == label].T, s=8, alpha=0.6, color=colour, marker=marker, lw=0, label=name
        )
    axis.set(xticks=[], yticks=[])
    axis.set_title(title or "", parse_math=False)
    if figure is not None:
        # Matplotlib leaves a name that begins with an underscore out: it gets its place first, then the name.
        legend = axis.legend(axis.collections, ["·"] * len(names), markerscale=2.5, bbox_to_anchor=(1, 1),
                             loc="upper left", frameon=False)  # fmt: skip
        for text, name in zip(legend.get_texts(), names.values(), strict=True):
            text.set(text=name, parse_math=False)
        told = ", ".join(names.values())
        show(figure, alt or f"{title or 'Two-dimensional map'}: {len(points)} points of {told}.")


def _names(labels, class_names):
    """{label: its name as text} of the labels that occur, in ascending order."""
    if labels.dtype.kind not in "iub":
        raise ValueError(
            f"labels must be integers, not {labels.dtype}. Of names, np.unique(names, return_inverse=True) makes "
            "class names and labels."
        )
    occurring = np.unique(labels).tolist()
    if class_names is None:
        return {label: str(label) for label in occurring}
    for label in occurring:
        if not 0 <= label < len(class_names):
            raise ValueError(
                f"Label {label} has no name: class_names holds those of 0 to {len(class_names) - 1}."
            )
    return {label: str(class_names[label]) for label in occurring}


def _drawable(*batches):
    """Image batches (…, height, width, channels) as Matplotlib draws them: colour as bytes, all on one scale."""
    batches = [np.asarray(images) for images in batches]
    others = [
        i for i, x in enumerate(batches) if x.ndim >= 4 and x.shape[-1] in (3, 4) and x.dtype != np.uint8
    ]
    if others:
        least, most = min(batches[i].min() for i in others), max(batches[i].max() for i in others)
        floats = any(batches[i].dtype.kind == "f" for i in others)
        white = (1 if most <= 2 else 255) if floats else (255 if most <= 255 else 65535)
        if not (np.isfinite(most) and least >= -0.1 * most):
            raise ValueError(f"Colours from {least:.3g} to {most:.3g} cannot be drawn: bring them to 0–255.")
        for i in others:
            batches[i] = np.round(255 * np.clip(batches[i] / white, 0, 1)).astype(np.uint8)
    return batches if len(batches) > 1 else batches[0]


def _draw_image(axis, image):
    image = np.asarray(image)
    # Bytes keep their brightness; other numbers are stretched between their smallest and largest.
    limits = {"vmin": 0, "vmax": 255} if image.dtype == np.uint8 else {}
    axis.imshow(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image, cmap="gray_r", **limits)
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)
