"""The library of the radio lab's scenarios, which runs in its guest."""

from .contents import forms, photos
from .lab import Lab
from .waiting import wait_until

__all__ = ["Lab", "forms", "photos", "wait_until"]
