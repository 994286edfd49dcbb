-- What HSS's operations on registries tell and want to hear again, though nothing here needs it:
-- api_version, namespace, connect_cluster_id and get_scan_image_channel, each where it was given.
ALTER TABLE registry ADD COLUMN hss jsonb NOT NULL DEFAULT '{}';

-- Where the secret is kept instead of credential_sealed: env:NAME, file:PATH or exec:COMMAND.
ALTER TABLE registry ADD COLUMN credential_reference text;
