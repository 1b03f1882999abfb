"""Train: two sets of a visitor's images → a detector of their own on the frozen backbone, in memory alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from detector.detectors.names import FUSED
from interpret.panels import components as parts
from interpret.panels.downloads import HAND_OVER
from interpret.panels.service import get_suite
from interpret.panels.session_models import GONE, MODELS, SessionModel
from interpret.panels.store import STORE
from interpret.panels.uploads import folder
from interpret.tabs.inputs import files_of, files_of_folder, folder_choice, many_files
from interpret.tabs.links import ANALYZE, AnalyzeLinks

if TYPE_CHECKING:
    from detector.data.collections import ImageFile

HEADS = {  # label → method of `detector.training.small_sets.HEADS`
    "linear: one direction": "linear_probe",
    "orthogonal: eight directions": "orthogonal",
    "concepts: words": "concepts",
}
ABOUT = (
    "Give photographs and made images of your own, 20 or more of each, and get a detector for just these. The backbone stays as it is; "
    "only a small head is trained, in under a minute for 500 images. It lives in the memory of this page until you close it: download it "
    "to keep it."
)
NOT_YET = '<div class="card"><h2>No detector yet</h2><p>Give both sets and press Train.</p></div>'
NOTHING = "Train a detector first."


@dataclass(frozen=True)
class TrainTab:
    """real, synthetic: uploads. labelled: a folder of the server with both classes. method: the head. train, calibrate, cancel, lead: the
    buttons. card: the result. chart, concepts, facts: of the detector. trained: choice of the detector of this session."""

    real: gr.File
    synthetic: gr.File
    labelled: gr.Dropdown
    method: gr.Radio
    train: gr.Button
    calibrate: gr.Button
    cancel: gr.Button
    card: gr.HTML
    result: gr.Column
    lead: gr.Button
    weights: gr.DownloadButton
    text: gr.DownloadButton
    files: tuple[gr.File, gr.File]
    chart: gr.Plot
    concepts: gr.Dataframe
    facts: gr.Dataframe
    trained: gr.State


class TrainValues(NamedTuple):
    """Values of `TrainTab`, in the order in which the endpoint gives them."""

    card: str
    result: gr.Column
    chart: gr.Plot
    concepts: list[list[str]]
    facts: list[list[str]]
    trained: str | None


def build_train(links: AnalyzeLinks) -> None:
    """The tab, and what its buttons do."""
    tab = _layout()
    sets: list[Any] = [tab.real, tab.synthetic, tab.labelled]
    line: dict[str, Any] = {"concurrency_id": "model", "trigger_mode": "once", "show_progress_on": tab.card}
    results = parts.outputs(tab, TrainValues)
    train = tab.train.click(train_detector, [*sets, tab.method, links.in_use], results, api_name="train", **line)
    calibrate = tab.calibrate.click(calibrate_verdict, [*sets, links.in_use], results, api_name="calibrate", **line)
    tab.cancel.click(None, cancels=[train, calibrate])
    lead = tab.lead.click(lead_with, tab.trained, [links.in_use, links.note], api_name="lead", concurrency_id="panels")
    lead.success(lambda: gr.Tabs(selected=ANALYZE), None, links.tabs, api_visibility="private", concurrency_id="panels")
    ways = ((tab.weights, make_weights, "trained_head"), (tab.text, make_card, "trained_card"))
    for (button, make, name), file in zip(ways, tab.files, strict=True):
        event = button.click(make, tab.trained, file, api_name=name, concurrency_id="panels", show_progress="hidden")
        event.success(None, file, None, js=HAND_OVER, show_progress="hidden")


def _layout() -> TrainTab:
    gr.Markdown(ABOUT)
    with gr.Row(elem_classes="stack"):
        real = many_files("Real: photographs, or a zip of some", "train-real")
        synthetic = many_files("Synthetic: made images, or a zip of some", "train-synthetic")
    labelled = folder_choice("A folder of this server that holds real and synthetic")
    method = gr.Radio(list(HEADS.items()), value="linear_probe", label="Head", elem_id="train-method")
    with gr.Row():
        train = gr.Button("Train", variant="primary", elem_id="train-start")
        calibrate = gr.Button("Calibrate the verdict on these", elem_id="train-calibrate")
        cancel = gr.Button("Cancel", min_width=90, scale=0, elem_id="train-cancel")
    card = gr.HTML(NOT_YET, elem_id="train-card")
    with gr.Column(visible=False, elem_id="train-result") as result:
        with gr.Row(elem_classes="stack"):
            lead = gr.Button("Lead with this detector now", variant="primary", elem_id="train-lead")
            weights = gr.DownloadButton("Download the detector (safetensors)", elem_id="train-weights")
            text = gr.DownloadButton("Download its card", elem_id="train-text")
        chart = parts.plot("Cross-validated logits of both sets", "train-chart")
        with gr.Row(elem_classes="stack"):
            concepts = parts.table(
                ["concept", "speaks for synthetic", "strength"], "Concepts that the detector uses most", ["34%", "44%", "22%"]
            )
            facts = parts.table(["fact of the file", "AUROC alone"], "What each fact of the files alone tells", ["65%", "35%"])
    files = gr.File(label="head", visible=False), gr.File(label="card", visible=False)
    buttons = (train, calibrate, cancel, card, result, lead, weights, text, files)
    return TrainTab(real, synthetic, labelled, method, *buttons, chart, concepts, facts, gr.State())


# --- actions -------------------------------------------------------------------------------------------------------


def train_detector(
    real: list[str] | None,
    synthetic: list[str] | None,
    labelled: str = "",
    method: str = "linear_probe",
    in_use: str = "embedded",
    progress=gr.Progress(),  # noqa: B008
) -> TrainValues:
    """Train a detector on two sets of images, cross-validate it, and audit the files. It belongs to this session.

    Args:
        real: image files or zip archives of photographs.
        synthetic: image files or zip archives of made images.
        labelled: a folder that the server offers, with real/ and synthetic/ in it, beside or in place of the uploads; "" for none.
        method: the head: linear_probe, orthogonal or concepts.
        in_use: the backbone or detector in use.

    Returns:
        A card in HTML, with a warning where the files' format, size or compression alone tell the classes apart; charts; tables of
        concepts and of file facts.
    """
    from detector.clip.backbone import BackboneError
    from detector.data.datasets import DataError
    from detector.detectors.names import DetectorError
    from detector.methods.base import HeadError
    from interpret import training_report
    from interpret.render.curves import logit_histogram

    if refusal := parts.refusal(method, HEADS.values(), "head"):
        return _refused(refusal)
    try:
        choice = _plain(in_use)
        files = _two_sets(real, synthetic, labelled)
        result = training_report.train_detector(files, method, get_suite(choice).backbone, _bar(progress))
    except (BackboneError, DataError, DetectorError, HeadError) as error:
        return _refused(str(error))
    training = result.training
    trained = MODELS.put(SessionModel(choice, method, training.head, training.card, training.fusion))
    STORE.put((trained, "card"), training_report.card_text(result))
    card = _card("Your detector", training_report.summary(result), result.shortcuts.warning)
    chart = parts.chart(logit_histogram(result.images.labels, training.logits))
    rows = training_report.concept_rows(result), training_report.facts_rows(result)
    return TrainValues(card, gr.Column(visible=True), chart, *rows, trained)


def calibrate_verdict(
    real: list[str] | None,
    synthetic: list[str] | None,
    labelled: str = "",
    in_use: str = "embedded",
    progress=gr.Progress(),  # noqa: B008
) -> TrainValues:
    """Fit the verdict over all detectors of the backbone in use anew on two sets of images; no head is trained. It belongs to this session.

    Args:
        real: image files or zip archives of photographs.
        synthetic: image files or zip archives of made images.
        labelled: a folder that the server offers, with real/ and synthetic/ in it, beside or in place of the uploads; "" for none.
        in_use: the backbone or detector in use.

    Returns:
        A card in HTML, with the band of logits in which no label is given; the weights of the detectors as a table.
    """
    from detector.clip.backbone import BackboneError
    from detector.data.datasets import DataError
    from detector.detectors.names import DetectorError
    from detector.methods.base import HeadError
    from detector.methods.registry import expected_card
    from interpret.render.curves import logit_histogram
    from interpret.render.text import method_name
    from interpret.training_report import calibrate_verdict as fit

    try:
        choice = _plain(in_use)
        suite, files = get_suite(choice), _two_sets(real, synthetic, labelled)
        fusion = fit(files, suite, _bar(progress))
    except (BackboneError, DataError, DetectorError, HeadError) as error:
        return _refused(str(error))
    trained = MODELS.put(SessionModel(choice, FUSED, None, expected_card("verdict", suite.backbone), fusion))
    fused = fusion.fuse({name: fusion.logits[:, place] for place, name in enumerate(fusion.methods)})
    real_count, low, high = int((fusion.labels == 0).sum()), *fusion.band
    words = (
        f"The verdict was fitted on {real_count} real and {len(fusion.labels) - real_count} synthetic images. Between the logits "
        f"{low:.2f} and {high:.2f} it gives no label."
    )
    weights = [[method_name(name), "", f"{weight:.2f}"] for name, weight in zip(fusion.methods, fusion.weights, strict=False)]
    chart = parts.chart(logit_histogram(fusion.labels, fused))
    return TrainValues(_card("Your verdict", words, ""), gr.Column(visible=True), chart, weights, [], trained)


def lead_with(trained: str | None) -> tuple[str, str]:
    """Let the detector that was trained or calibrated last in this session give the verdict in Analyze.

    Returns:
        What is in use now, an input of /analyze, and one sentence about it.
    """
    from interpret.panels.model import status

    _required(trained)
    return str(trained), status(get_suite(str(trained)))


def make_weights(trained: str | None) -> str:
    """The detector trained last in this session as a safetensors file, whose header is its card.

    Returns:
        The file.
    """
    from gradio.processing_utils import save_bytes_to_cache

    from detector.methods.base import save_head

    model = _required(trained)
    if model.card is None or model.head is None:
        raise gr.Error(
            "A verdict is kept for this session alone; `python -m detector calibrate` writes one to a file.", print_exception=False
        )
    path = Path(folder()) / f"{os.getpid()}-{Path(str(trained)).name}.safetensors"
    try:
        save_head(path, model.head.tensors(), model.card)
        return save_bytes_to_cache(path.read_bytes(), f"{model.method}.safetensors", os.path.join(folder(), "taken"))
    finally:
        path.unlink(missing_ok=True)


def make_card(trained: str | None) -> str:
    """The card of the detector trained last in this session.

    Returns:
        A file in Markdown.
    """
    from gradio.processing_utils import save_bytes_to_cache

    model = _required(trained)

    def gone() -> str:
        raise gr.Error(GONE, print_exception=False)

    text = STORE.get((trained, "card"), gone)
    return save_bytes_to_cache(text.encode(), f"{model.method}.md", os.path.join(folder(), "taken"))


# --- helpers -------------------------------------------------------------------------------------------------------


def _plain(in_use: str) -> str:
    """The choice of a backbone without a detector of this session; its detectors are made on the same backbone."""
    model = MODELS.get(in_use)
    return model.choice if model else in_use


def _two_sets(real: list[str] | None, synthetic: list[str] | None, labelled: str) -> tuple[list[ImageFile], list[ImageFile]]:
    from detector.data.datasets import DataError

    files = files_of_folder(labelled) if labelled else []
    sets = [[file for file in files if file.label == label] for label in (0, 1)]
    if files and not all(sets):
        raise DataError("The folder needs images below real/ and below synthetic/; choose another one.")
    for part, uploads in zip(sets, (real, synthetic), strict=True):
        if uploads:
            part += files_of(uploads, "")
    if not all(sets):
        raise DataError("Both sets are needed: give real and synthetic images.")
    return sets[0], sets[1]


def _bar(progress: gr.Progress):
    def report(done: int, total: int) -> None:
        progress(done / max(total, 1), desc=f"{done} of {total} images measured")

    return report


def _card(title: str, words: str, warning: str) -> str:
    alert = f'<p role="alert"><b>Warning.</b> {escape(warning)}</p>' if warning else ""
    return f'<div class="card{" bad" if warning else ""}"><h2>{title}</h2><p>{escape(words)}</p>{alert}</div>'


def _refused(sentence: str) -> TrainValues:
    card = f'<div class="card bad" role="alert"><h2>Nothing was trained</h2><p>{escape(sentence)}</p></div>'
    return TrainValues(card, gr.Column(visible=False), parts.chart(None), [], [], None)


def _required(trained: str | None) -> SessionModel:
    """The session's model. gr.Error, one sentence, where there is none, or no more."""
    model = MODELS.get(trained)
    if model is None:
        raise gr.Error(GONE if trained else NOTHING, print_exception=False)
    return model
