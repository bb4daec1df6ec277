"""A page for one patient at a time on the loopback address, and the same as a JSON interface.

No account, no storage, no log of what is asked, no request to the outside. An upload is read into
memory, of few clients at a time; what a browser of another site sends is refused.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from lymphoml.core.errors import InputError, printable
from lymphoml.data.one_patient import read_values
from lymphoml.data.settings import DataConfig
from lymphoml.deploy.one_patient import RESEARCH, Answer, answer_of_files, require_images
from lymphoml.deploy.runtime import ExportedModel

HERE = Path(__file__).parent / "page"
HOST = "127.0.0.1"
MOST_IMAGES, MOST_BYTES, MOST_FIELD = 1000, 64 << 20, 1000  # of an upload; characters of a value
AT_ONCE, SECONDS = 2, 60  # uploads that are read and answered at once; to read one
MultiPartParser.spool_max_size = MOST_BYTES  # above it a file would go to disk
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "data: blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}  # fmt: skip
FILES = {"page.css": "text/css", "page.js": "text/javascript"}


def make_app(model: ExportedModel, data: DataConfig, port: int) -> FastAPI:
    """Return the application, which answers requests to `port` of this machine alone."""
    app = FastAPI(
        title="lymphoml: one patient", version="1", description=RESEARCH, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    require_images(model)
    page = _render(model, data)
    free = asyncio.Semaphore(AT_ONCE)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        problem = _foreign(request, port)
        response = _refusal(problem, 403) if problem else await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> str:
        return page

    for name in FILES:
        app.add_route(f"/{name}", partial(_send, name), include_in_schema=False)

    @app.post("/answer", openapi_extra={"requestBody": _body(model, data)},
              responses={422: {"description": "{problems: a line each}"}})  # fmt: skip
    async def ask(request: Request) -> Answer:
        """The answer for one patient: files `images`, and a field for each clinical value."""
        _check_length(request)
        async with free:
            async with asyncio.timeout(SECONDS):
                form = await request.form(
                    max_files=MOST_IMAGES, max_fields=2 * len(data.clinical) + 1,
                    max_part_size=MOST_FIELD,
                )  # fmt: skip
            files, values = [], {}
            try:
                for key, value in form.multi_items():
                    if isinstance(value, UploadFile):
                        files.append((printable(value.filename or ""), await value.read()))
                    elif key in values:
                        raise InputError(f"{printable(key)}: is given twice; give it once")
                    else:
                        values[key] = value
            finally:
                await form.close()
            return await run_in_threadpool(_answer, model, data, files, values)

    _refuse_in_a_line(app)
    return app


def _answer(
    model: ExportedModel, data: DataConfig, files: list[tuple[str, bytes]],
    values: Mapping[str, str],
) -> Answer:  # fmt: skip
    """Return the answer for files in the order of their names, as a folder's; as they were sent."""
    given = {name: text.strip() for name, text in values.items() if text.strip()}
    row, problems = read_values(data, given)
    if model.uses_images and not files:
        problems.append("there is no image: a patient needs at least one")
    if problems:
        raise InputError(problems)
    order = sorted(range(len(files)), key=lambda number: files[number][0])
    read = [(files[number][0], partial(bytes, files[number][1])) for number in order]
    found = answer_of_files(model, data, read, row)
    cells = [replace(cell, number=order[cell.number]) for cell in found.cells]
    return replace(found, cells=cells)


def _check_length(request: Request) -> None:
    """Refuse, before it is read, an upload that is too long or does not say how long it is."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "the upload does not say its length")
    if int(length) > MOST_BYTES:
        raise HTTPException(413, f"the images have more than {MOST_BYTES >> 20} MiB; send fewer")


def _foreign(request: Request, port: int) -> str | None:
    """Return why a request does not come from this page, if so: another host's name, or site."""
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
    if request.headers.get("host") not in hosts:
        return "this address answers as 127.0.0.1 or localhost alone"
    origin = request.headers.get("origin")
    if origin is not None and origin not in {f"http://{host}" for host in hosts}:
        return "a page of another site cannot ask here"
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "a page of another site cannot ask here"
    return None


def _refuse_in_a_line(app: FastAPI) -> None:
    """Answer what is wrong with a request as `problems`, a line each, and never a stack trace."""

    @app.exception_handler(InputError)
    async def wrong(_: Request, error: Exception) -> Response:
        problems = [printable(each) for each in getattr(error, "problems", [])]
        return JSONResponse({"problems": problems}, 422)

    @app.exception_handler(HTTPException)
    async def unfit(_: Request, error: Exception) -> Response:
        text = str(getattr(error, "detail", ""))
        if "Too many files" in text:
            text = f"more than {MOST_IMAGES} images; send fewer"
        return _refusal(printable(text), getattr(error, "status_code", 400))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _refusal(f"the program failed ({type(error).__name__}); nothing was stored", 500)

    @app.exception_handler(TimeoutError)
    async def late(_: Request, error: Exception) -> Response:
        return _refusal(f"no whole upload within {SECONDS} seconds", 408)


async def _send(name: str, _: Request) -> Response:
    return FileResponse(HERE / name, media_type=FILES[name])


def _refusal(problem: str, status: int) -> Response:
    return JSONResponse({"problems": [problem]}, status)


def _body(model: ExportedModel, data: DataConfig) -> dict[str, Any]:
    """Return the upload's form, as OpenAPI describes it."""
    fields: dict[str, Any] = {name: {"type": "string", "maxLength": MOST_FIELD}
                              for name in data.clinical}  # fmt: skip
    if model.uses_images:
        image = {"type": "string", "format": "binary"}
        fields["images"] = {"type": "array", "items": image, "maxItems": MOST_IMAGES}
    needed = [name for name in fields if name == "images" or data.missing == "error"]
    schema = {"type": "object", "properties": fields, "required": needed}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _render(model: ExportedModel, data: DataConfig) -> str:
    columns = []
    for name in data.clinical:
        column: Any = data.columns[name]
        unit = "years" if column.kind == "date_of_birth" else ""
        choices = list(column.values) if column.kind == "categorical" else []
        columns.append({"name": name, "title": name.replace("_", " "), "unit": unit,
                        "choices": choices, "required": data.missing == "error"})  # fmt: skip
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True,
                           lstrip_blocks=True).get_template("page.html.j2")  # fmt: skip
    return template.render(columns=columns, images=model.uses_images, notice=RESEARCH,
                           name=model.config.get("name", ""), most=MOST_IMAGES)  # fmt: skip


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on the loopback address alone. Raises InputError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port={port}: {error.strerror}; give another") from None
        found.listen()
        yield found


def serve(model: ExportedModel, data: DataConfig, port: int) -> None:
    """Answer until the process is stopped."""
    # It quotes what was sent.
    logging.getLogger("python_multipart.multipart").disabled = True
    with listening(port) as found:
        app = make_app(model, data, found.getsockname()[1])
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, server_header=False,
            limit_concurrency=64, timeout_keep_alive=5, timeout_graceful_shutdown=5, ws="none",
            lifespan="off",
        )  # fmt: skip
        print(f"http://{HOST}:{found.getsockname()[1]}  (Ctrl-C stops it)", flush=True)
        uvicorn.Server(config).run(sockets=[found])
