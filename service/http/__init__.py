"""The HTTP API: requests, answers, API keys, rate limits, event streams and the OpenAPI document."""
