"""The paths of the server, one file a group: each has ``routes(service, ...)``, a router that ``serve/app.py`` includes by one line."""
