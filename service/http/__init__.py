"""What callers say and hear: requests, answers, keys, streams and the OpenAPI document."""
