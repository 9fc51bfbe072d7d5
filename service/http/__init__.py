"""The HTTP API: requests, answers, keys, rate limits, streams and the OpenAPI document."""
