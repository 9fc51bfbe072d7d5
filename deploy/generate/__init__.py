"""Makes the dashboards and alert rules in `deploy/` from the catalogue of metrics, and the lock of versions."""
