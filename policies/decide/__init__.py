"""Compiled rules and the decision: pure functions of request, signals and snapshot."""
