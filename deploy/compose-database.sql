-- The two roles and the database, once, when PostgreSQL's volume is new.
\getenv owner_password WHARFINGER_OWNER_PASSWORD
\getenv app_password WHARFINGER_APP_PASSWORD
CREATE ROLE wharfinger_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE wharfinger_app LOGIN PASSWORD :'app_password';
GRANT wharfinger_app TO wharfinger_owner WITH SET TRUE, INHERIT FALSE;
CREATE DATABASE wharfinger OWNER wharfinger_owner;
