-- A list can change without an event: a time or a size that the registry tells anew. Whoever asks
-- whether what they have is still right needs to see that, too.
ALTER TABLE tenant_feed ADD COLUMN revision bigint NOT NULL DEFAULT 0;
