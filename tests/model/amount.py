"""How long the model is to run: what the environment says, or what CI needs."""

from __future__ import annotations

import os
import random

# How many sync runs all shards together carry out.
RUNS = int(os.environ.get("WHARFINGER_TESTS_MODEL_RUNS") or 2400)
# Where the search begins; every shard prints it, so that the same search can be made again.
SEED = int(
    os.environ.get("WHARFINGER_TESTS_MODEL_SEED") or random.SystemRandom().randrange(1, 2**31)
)
# 0: a failure is told at once as it was met, not made small first.
SHRINKS = os.environ.get("WHARFINGER_TESTS_MODEL_SHRINK") != "0"

SHARDS = 8
RUNS_OF_A_SHARD = -(-RUNS // SHARDS)
