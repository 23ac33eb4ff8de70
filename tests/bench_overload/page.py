"""The sample's front end, whose page takes as much processor time as that of a larger application: page.py MILLISECONDS."""

import runpy
import sys
import time

sys.path.insert(0, "/srv")
from app import main

SECONDS = float(sys.argv[1]) / 1000


class Page:
    """Takes the processor for a while before the page is served."""

    def __init__(self, app):
        """Stand before an application."""
        self.app = app

    async def __call__(self, scope, receive, send):
        """Serve a request of it."""
        if scope["type"] == "http" and scope["path"] == "/":
            end = time.thread_time() + SECONDS
            while time.thread_time() < end:
                pass
        await self.app(scope, receive, send)


main.app.add_middleware(Page)
runpy.run_module("app", run_name="__main__")
