-- Fresh statistics after a run that changed much. A table that was just filled has none, and the
-- planner then takes the tenant's index, which row-level security offers, for every batch of the
-- next full sync. The application's role may not ANALYZE what it does not own.

CREATE FUNCTION refresh_statistics() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    ANALYZE repository, image, image_version;
END
$$;

REVOKE EXECUTE ON FUNCTION refresh_statistics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION refresh_statistics TO wharfinger_app;
