"""Real HTTP servers on loopback that speak a registry's protocol, with faults on demand."""
