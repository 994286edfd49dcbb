"""The bench: what a sync costs, beside what users have today, on one upstream."""
