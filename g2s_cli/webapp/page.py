"""The page of the web app: a photo and choices on the left; steps, the object in 3D and downloads on the right."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from g2s_cli.errors import FLAG, G2SError, StoppedError, UsageError, as_g2s_error
from g2s_cli.geometry.image import to_uint8
from g2s_cli.result.schema import PAGE
from g2s_cli.webapp.jobs import Job, Jobs, JobState, Step
from g2s_cli.webapp.studio import FILMS, OBJ_ZIP, Choice, FacesPicture, PhotoLimits, Studio, draw_faces, film
from g2s_cli.weights.categories import category_names, load_category

JOBS_PATH = "jobs"  # of the URLs of results; relative, so that a proxy may add a prefix
DOWNLOADS = {"GLB": "mesh.glb", "OBJ (ZIP)": OBJ_ZIP, "STL": "mesh.stl"}
CACHE_S = (600, 3600)  # uploads are looked through this often, and deleted at this age
CAPTIONS = {"photo": "The crop", "inversion": "The GAN's version", "mask": "The object", "shape": "The shape"}
CSS = """
.gradio-container { width: 100%; max-width: 1280px !important; margin: auto }
.steps { margin: 0; padding: 0; list-style: none; font-variant-numeric: tabular-nums }
.steps li { display: grid; grid-template-columns: 9em minmax(2em, 1fr) minmax(8em, auto); gap: 1em }
.steps progress { width: 100% }
@media (max-width: 640px) { .steps li { grid-template-columns: 6em minmax(1em, 1fr) 8em; gap: .5em; font-size: .9em } }
.pictures { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0 } .pictures figure { margin: 0; width: 112px }
.pictures img { width: 112px; height: 112px; border-radius: 6px } .pictures figcaption { font-size: 12px }
.g2s-error { padding: 10px 14px; border-left: 4px solid #c62828; background: #c6282818; overflow-wrap: anywhere }
.g2s-note { padding: 6px 14px; border-left: 4px solid #b98900; background: #b9890018; margin: 6px 0 }
.viewer { width: 100%; height: min(80vh, 640px); border: 1px solid #8884; border-radius: 8px; background: #fff }
.downloads { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0 }
.downloads a { padding: 8px 14px; border: 1px solid #8888; border-radius: 6px; text-decoration: none }
.film { display: block; max-width: 100%; border-radius: 8px }
"""


@dataclass(frozen=True)
class AppDefaults:
    """What the page shows first."""

    category: str
    preset: str


@dataclass(frozen=True)
class App:
    """The page's events: each takes and returns values of its components."""

    jobs: Jobs
    studio: Studio
    limits: PhotoLimits

    def inspect(self, photo: str | None, category: str) -> tuple[Any, FacesPicture | None, int | None, str]:
        """A new photo: the picture of its faces if there are several, the faces, the chosen one, and a message."""
        hidden = gr.update(value=None, visible=False)
        if photo is None:
            return hidden, None, None, ""
        try:
            self.limits.check(Path(photo))
            faces = draw_faces(Path(photo), category)
        except Exception as error:
            return hidden, None, None, error_html(error, photo)
        if len(faces.faces) < 2:
            return hidden, None, None, ""
        return gr.update(value=faces.draw(1), visible=True), faces, 1, ""

    def choose_face(self, faces: FacesPicture, click: gr.SelectData) -> tuple[Any, int]:
        """A click into the picture of the faces: the picture with the chosen one, and its number."""
        chosen = faces.nearest(*click.index)
        return faces.draw(chosen), chosen

    def reconstruct(
        self, photo: str | None, category: str, preset: str, face: int | None
    ) -> Iterator[tuple[Any, Any, Any, Any, str | None]]:
        """Steps, pictures, viewer, film button and job of a reconstruction, again and again until it is done."""
        shown: dict[str, Tensor] = {}
        yield "<p>…</p>", "", "", gr.update(visible=False), None
        try:
            if photo is None:
                raise UsageError("There is no photo yet.", "Drop, paste or take one.")
            path = Path(photo)
            self.limits.check(path)
            job = self.jobs.submit(partial(self.studio.reconstruct, path, Choice(category, preset, face)))
            for state in self.jobs.watch(job):
                pictures = gr.skip() if state.pictures is shown else pictures_html(shown := state.pictures)
                yield state_html(state), pictures, gr.skip(), gr.skip(), None
        except Exception as error:
            yield error_html(error, photo), gr.skip(), "", gr.skip(), None
            return
        yield gr.skip(), gr.skip(), viewer_html(job, path.stem), gr.update(visible=True), job.name

    def film(self, name: str | None) -> Iterator[str]:
        """The film of a result: its steps, then the film."""
        try:
            source = self.jobs.find(name or "")
            if source is None:
                raise UsageError("This result is deleted.", "Reconstruct the photo again.")
            job = self.jobs.submit(partial(film, source.folder))
            for state in self.jobs.watch(job):
                yield state_html(state)
        except Exception as error:
            yield error_html(error)
            return
        yield film_html(job)


def build_page(app: App, defaults: AppDefaults) -> gr.Blocks:
    """The page as Gradio blocks."""
    with gr.Blocks(title="g2s", analytics_enabled=False, delete_cache=CACHE_S) as page:
        gr.Markdown("# g2s\nOne photo in, a relightable 3D shape out. Photos stay on the computer that runs `g2s app`.")
        faces_found, face, job = gr.State(), gr.State(), gr.State()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = gr.Image(label="Photo", type="filepath", sources=["upload", "webcam", "clipboard"], height=300)
                photo.preprocess = _path_of  # the file itself: g2s reads formats and profiles that Gradio does not
                # Gradio would copy any file of the disk, or of an address, to the uploads.
                photo.async_move_resource_to_block_cache = _unmoved
                faces = gr.Image(label="Click the face", interactive=False, visible=False, buttons=[], height=300)
                category = gr.Dropdown(category_names(), value=defaults.category, label="Category: what it shows")
                preset = gr.Radio(presets_of(defaults.category, defaults.preset), value=defaults.preset, label="Preset")
                start = gr.Button("Make it 3D", variant="primary", elem_id="start")
                stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=3, min_width=300):
                status = gr.HTML("<p>Choose a photo. The steps and the object appear here.</p>", elem_id="status")
                pictures = gr.HTML(elem_id="pictures")
                viewer = gr.HTML(elem_id="viewer")
                film_button = gr.Button("Film of it turning", visible=False, elem_id="make-film")
                film_view = gr.HTML(elem_id="film")
        private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
        # Answered by their own requests: Gradio 6.31 loses a queued event that begins as the stream of another ends.
        short = private | {"queue": False}
        gr.on(
            [photo.change, category.change],
            app.inspect,
            [photo, category],
            [faces, faces_found, face, status],
            **short,
        )
        category.change(
            lambda name: gr.update(choices=presets_of(name, first_preset(name)), value=first_preset(name)),
            category,
            preset,
            **short,
        )
        faces.select(app.choose_face, faces_found, [faces, face], **short)
        run = start.click(
            app.reconstruct, [photo, category, preset, face], [status, pictures, viewer, film_button, job], **private
        )
        start.click(lambda: "", None, film_view, **short)
        filming = film_button.click(app.film, job, film_view, **private)
        stop.click(lambda: error_html(StoppedError("Stopped.")), None, status, cancels=[run, filming], **short)
    return page


def presets_of(category: str, chosen: str) -> list[str]:
    """Names of a category's presets. Of equal ones the first has its name, or `chosen` if that is one of them."""
    presets = load_category(category).presets
    order = sorted(presets, key=lambda name: name != chosen)  # `chosen` first
    return [name for name in presets if name == next(one for one in order if presets[one] == presets[name])]


def first_preset(category: str) -> str:
    """The preset that is chosen first: fast, where the category has it."""
    names = list(load_category(category).presets)
    return "fast" if "fast" in names else names[0]


def error_html(error: Exception, photo: str | None = None) -> str:
    """An error as its sentence; photo: file of the upload, which is called by its name.

    The page has no place for options: a remedy that names one is called one of the command line.
    """
    failure: G2SError = as_g2s_error(error)
    if FLAG.search(failure.remedy):
        failure = failure.with_remedy(f"On the command line: {failure.remedy}")
    if photo:
        failure = failure.replace_name(photo, Path(photo).name)
    return f'<p class="g2s-error" role="alert">{escape(str(failure))}</p>'


def state_html(state: JobState) -> str:
    """Steps and notes of a job."""
    notes = "".join(f'<p class="g2s-note">{escape(note)}</p>' for note in state.notes)
    if state.ahead:
        count = "One photo is" if state.ahead == 1 else f"{state.ahead} photos are"
        notes += f"<p>{count} before this one.</p>"
    return f'<ul class="steps" aria-live="polite">{"".join(map(_step_html, state.steps))}</ul>{notes}'


def _step_html(step: Step) -> str:
    value = f" {step.quantity} {step.value:.4f}" if step.value else ""
    bar = f'<progress max="{max(1, step.total)}" value="{step.done}"></progress>'
    return f"<li><span>{escape(step.name)}</span>{bar}<span>{step.done}/{step.total}{value}</span></li>"


def pictures_html(pictures: dict[str, Float[Tensor, "3 h w"]]) -> str:
    """Intermediate pictures with captions."""
    figures = "".join(
        f'<figure><img src="{_data_url(image)}" alt=""><figcaption>{CAPTIONS[name]}</figcaption></figure>'
        for name, image in pictures.items()
    )
    return f'<div class="pictures">{figures}</div>'


def viewer_html(job: Job, stem: str) -> str:
    """A result: the page that turns and lights it, and its downloads."""
    links = "".join(_download_html(job, label, name, stem) for label, name in DOWNLOADS.items())
    # The sandbox has an origin of its own: the page within cannot reach the app.
    return (
        f'<iframe class="viewer" title="The object in 3D" sandbox="allow-scripts allow-downloads" '
        f'src="{JOBS_PATH}/{job.name}/{PAGE}"></iframe><div class="downloads">{links}</div>'
    )


def film_html(job: Job) -> str:
    """A film, and its download."""
    name = next(name for name in FILMS if (job.folder / name).is_file())
    address, kind = f"{JOBS_PATH}/{job.name}/{name}", Path(name).suffix[1:].upper()
    film = (
        f'<video class="film" src="{address}" controls loop autoplay muted playsinline></video>'
        if kind == "MP4"
        else f'<img class="film" src="{address}" alt="The object turns from side to side">'
    )
    return f'{film}<div class="downloads">{_download_html(job, kind, name, "film")}</div>'


def _download_html(job: Job, label: str, name: str, stem: str) -> str:
    file = escape(f"{stem}{Path(name).suffix}", quote=True)
    return f'<a href="{JOBS_PATH}/{job.name}/{name}" download="{file}">{label}</a>'


def _data_url(image: Float[Tensor, "3 h w"]) -> str:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


async def _unmoved(path: str) -> str:
    return path


def _path_of(upload: Any) -> str | None:
    return upload and upload.path
