"""Serves the page, and the simulations that it asks for."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import weightstream
from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from nadoo_video.model import WorldModel, weight_bytes
from nadoo_video.page.origin import SameOriginMiddleware
from nadoo_video.simulate import Piece, simulate
from nadoo_video.site import FRAMES_PER_SECOND, Plan, PlanError, Site
from nadoo_video.site.clips import site_of
from nadoo_video.site.operator import plan_for
from nadoo_video.site.plan import KINDS
from nadoo_video.site.render import render

STATIC = Path(__file__).parent / "static"
PRESETS = (3, 8, 12, 21, 34, 55)  # seeds of sites on which something happens
MOST_VARIANTS = 16
MOST_BYTES = 1 << 20  # that a browser may send at once; 16 plans of 100 steps have 64 KiB
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Memory(BaseModel, allow_inf_nan=False):
    """What the slider says: a share of the weights' size."""

    share: float


class Wanted(BaseModel, allow_inf_nan=False):
    """What the page asks to be simulated."""

    plans: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_VARIANTS)
    seconds: float = 8.0


def create_app(model: WorldModel, folder: Path, hosts: Sequence[str] = LOCAL) -> FastAPI:
    """The application for one streamed model. One simulation runs at a time; others wait for their turn.

    Requests that name another host than `hosts`, or come from a page of another, are refused.
    """
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(SameOriginMiddleware),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BYTES),
    ]
    app = FastAPI(title="NADOO-Video", openapi_url=None, middleware=guards)
    total = weight_bytes(folder)
    turn = asyncio.Lock()

    @app.exception_handler(RequestValidationError)
    def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent: Infinity can't be said back.
        said = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
        return JSONResponse({"detail": said}, 422)

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/presets")
    def presets() -> dict[str, Any]:
        plans = [plan_for(Site.sample(1, np.random.default_rng(seed)), seed).to_json() for seed in PRESETS]
        kinds = [{"do": name, "unit": unit, "least": least, "most": most} for name, unit, least, most in KINDS]
        return {"plans": plans, "kinds": kinds, "frames_per_second": FRAMES_PER_SECOND, "variants": MOST_VARIANTS}

    @app.get("/api/site/{seed}")
    def site(seed: int) -> dict[str, str]:
        try:
            picture = render(site_of(Plan.from_json({"site": seed, "steps": [{"do": "grab"}]})), 256)[0]
        except PlanError as error:
            raise HTTPException(422, str(error)) from error
        return {"picture": _encode(picture)}

    @app.get("/api/memory")
    def memory() -> dict[str, Any]:
        return _memory(model, total)

    @app.post("/api/memory")
    def resize(wanted: Memory) -> dict[str, Any]:
        try:
            weightstream.resize(model, round(wanted.share * total))
        except (ValueError, weightstream.WeightstreamError) as error:
            raise HTTPException(422, str(error)) from error
        return _memory(model, total)

    @app.websocket("/api/run")
    async def run(socket: WebSocket) -> None:
        await socket.accept()
        try:
            wanted = Wanted.model_validate_json(await socket.receive_text())
            async with turn:
                await _run(socket, model, wanted)
        except WebSocketDisconnect:
            pass
        except (PlanError, ValueError, TypeError, KeyError, weightstream.WeightstreamError) as error:
            await socket.send_json({"error": str(error)})
            await socket.close()

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _run(socket: WebSocket, model: WorldModel, wanted: Wanted) -> None:
    plans = [Plan.from_json(plan) for plan in wanted.plans]
    pieces: Iterator[Piece] = simulate(model, plans, round(wanted.seconds * FRAMES_PER_SECOND))
    # A pass takes its time: the page goes on answering meanwhile.
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        await socket.send_json(
            {
                "start": piece.start,
                "predicted": [_encode(_strip(variant)) for variant in piece.predicted],
                "real": [_encode(_strip(variant)) for variant in piece.real],
                "frames": piece.predicted.shape[1],
            }
        )
    await socket.send_json({"done": True})
    await socket.close()


def _memory(model: WorldModel, total: int) -> dict[str, Any]:
    stats = weightstream.stats(model)
    return {
        "total": total,
        "budget": stats.budget,
        "used": stats.used,
        "least": stats.least,
        "read": stats.bytes_read,
        "passes": stats.passes,
        "stalls": stats.stall_ns / 1e9,
        "pass_bytes": stats.pass_bytes,
        "blocks": [
            {"name": name or "outside blocks", "resident": block.resident, "total": block.total}
            for name, block in weightstream.residency(model).items()
        ],
    }


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames side by side, as one picture."""
    return np.concatenate(list(frames), axis=1)


def _encode(picture: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
