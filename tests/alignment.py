"""Fully loaded models whose bits can be compared with a streamed one's."""

import torch


def realigned(reference, model):
    """`reference` with each weight at an address as `model` has it, modulo a cache line.

    Kernels pick other summation orders for other alignments: bits are only comparable where these agree.
    """
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            room = torch.empty(theirs.nbytes + 128, dtype=torch.uint8)
            start = (ours.data_ptr() - room.data_ptr()) % 64
            place = room[start : start + theirs.nbytes].view(theirs.dtype).view(theirs.shape)
            theirs.data = place.copy_(theirs)
    return reference
