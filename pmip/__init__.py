"""Predictive models in production: a notebook trains, S3 keeps the versions, an API serves the newest."""
