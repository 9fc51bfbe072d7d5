"""Downloads models from a hub, locks what came by its digests, and verifies it later."""

from palimpsest.models.choice import Choice, HubFile, choose
from palimpsest.models.fetch import Fetcher, FetchError
from palimpsest.models.lock import LOCK, Finding, Lock, read_lock, verify

__all__ = ["LOCK", "Choice", "FetchError", "Fetcher", "Finding", "HubFile", "Lock", "choose", "read_lock", "verify"]
