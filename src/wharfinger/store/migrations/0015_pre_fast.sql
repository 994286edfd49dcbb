-- New images are numbered while they are copied in, so that neither the list nor its history has
-- to ask for the numbers again. The application's role may draw numbers and set none.
GRANT USAGE ON SEQUENCE image_id_seq TO wharfinger_app;
