"""The audit log: written, verified and searched."""

from service.audit.keys import AuditKeys, load_keys
from service.audit.log import AuditLog
from service.audit.verify import Finding, find, verify

__all__ = ["AuditKeys", "AuditLog", "Finding", "find", "load_keys", "verify"]
