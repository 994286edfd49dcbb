"""One PostgreSQL: connections, migrations, named SQL, and the embedded server."""
