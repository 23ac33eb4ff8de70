"""What the back end answers, with a database that is not MySQL: none of it touches the rows of the stack."""

import asyncio
import json
import unittest

from app import main
from app.database import users
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool


def request(method: str, path: str, body: object = None) -> tuple[int, dict]:
    """Return status and content of what the application answers, without a server in between."""
    sent: list[dict] = []
    path, _, query = path.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": ""}
    scope |= {"headers": [(b"content-type", b"application/json")], "client": None, "server": None}

    async def receive() -> dict:
        return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(main.app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


class BackEnd(unittest.TestCase):
    """An empty table in memory for each test."""

    def setUp(self) -> None:
        """Put it in the place of the pool."""
        self.addCleanup(setattr, main, "pool", main.pool)
        main.pool = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self.addCleanup(main.pool.dispose)
        users.metadata.create_all(main.pool)

    def test_healthz_needs_no_database(self) -> None:
        """It stays healthy while the database is away."""
        main.pool = None
        assert request("GET", "/healthz")[0] == 200

    def test_user_is_added_and_listed(self) -> None:
        """The newest comes first, and e-mail addresses are in lower case."""
        for name in ("Ada", "Grace"):
            status, answer = request("POST", "/users", {"name": f" {name} ", "email": f"{name}@Example.com"})
            assert (status, answer["user"]["email"]) == (201, f"{name.lower()}@example.com")
        status, answer = request("GET", "/")
        assert (status, [user["name"] for user in answer["users"]]) == (200, ["Grace", "Ada"])
        assert len(request("GET", "/?limit=1")[1]["users"]) == 1

    def test_wrong_input_is_refused_with_a_reason(self) -> None:
        """Each field is named."""
        for wrong, field in (({"name": "", "email": "a@b"}, "name"), ({"name": "Ada", "email": "nobody"}, "email")):
            status, answer = request("POST", "/users", wrong)
            assert status == 422
            assert answer["error"].startswith(f"{field}: "), answer
        assert request("GET", "/")[1]["users"] == []

    def test_missing_database_is_503_with_a_reason(self) -> None:
        """The client learns when to come back, and nothing of the reason in the log."""

        class Away:
            def connect(self) -> None:
                raise OperationalError("SELECT secret", {}, Exception("no route"))

        main.pool = Away()
        with self.assertLogs("uvicorn.error", "WARNING"):
            status, answer = request("GET", "/")
        assert (status, answer["error"][:30]) == (503, "The database is not available,")


if __name__ == "__main__":
    unittest.main()
