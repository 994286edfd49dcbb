"""The HTTP edge: decodes a request, calls a service, encodes the answer."""
