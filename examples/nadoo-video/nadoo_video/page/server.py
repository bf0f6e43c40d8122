"""Serves the page, and the simulations that it asks for."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import weightstream
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from nadoo_video.model import WorldModel, weight_bytes
from nadoo_video.simulate import Piece, simulate
from nadoo_video.site import FRAMES_PER_SECOND, Plan, PlanError, Site
from nadoo_video.site.clips import site_of
from nadoo_video.site.operator import plan_for
from nadoo_video.site.plan import KINDS
from nadoo_video.site.render import render

STATIC = Path(__file__).parent / "static"
PRESETS = (3, 8, 12, 21, 34, 55)  # seeds of sites on which something happens
MOST_VARIANTS = 16


class Memory(BaseModel):
    """What the slider says: a share of the weights' size."""

    share: float


def create_app(model: WorldModel, folder: Path) -> FastAPI:
    """The application for one streamed model. One simulation runs at a time; others wait for their turn."""
    app = FastAPI(title="NADOO-Video", openapi_url=None)
    total = weight_bytes(folder)
    turn = asyncio.Lock()

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
            asked = await socket.receive_json()
            async with turn:
                await _run(socket, model, asked)
        except WebSocketDisconnect:
            pass
        except (PlanError, ValueError, TypeError, KeyError, weightstream.WeightstreamError) as error:
            await socket.send_json({"error": str(error)})
            await socket.close()

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _run(socket: WebSocket, model: WorldModel, asked: Any) -> None:
    if not isinstance(asked, dict) or not isinstance(asked.get("plans"), list):
        raise ValueError('expected {"plans": [...], "seconds": 8}')
    plans = [Plan.from_json(plan) for plan in asked["plans"]]
    if not 1 <= len(plans) <= MOST_VARIANTS:
        raise ValueError(f"expected 1 to {MOST_VARIANTS} plans, came {len(plans)}")
    pieces: Iterator[Piece] = simulate(model, plans, round(float(asked.get("seconds", 8)) * FRAMES_PER_SECOND))
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
