"""Serving played request by request: continuous batching with the cost model as its clock."""
