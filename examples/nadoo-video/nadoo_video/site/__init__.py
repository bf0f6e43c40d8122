"""The ground truth: a small, deterministic simulator of a construction site seen from the side.

Everything is computed for many sites at once: arrays have a leading axis of sites.
"""

from nadoo_video.site.operator import Operator
from nadoo_video.site.physics import FRAMES_PER_SECOND, advance
from nadoo_video.site.plan import Plan, PlanError, Step
from nadoo_video.site.render import render
from nadoo_video.site.state import ELEMENTS, Site

__all__ = [
    "ELEMENTS",
    "FRAMES_PER_SECOND",
    "Operator",
    "Plan",
    "PlanError",
    "Site",
    "Step",
    "advance",
    "render",
]
