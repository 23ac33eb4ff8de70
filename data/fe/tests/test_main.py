"""What the front end answers, with a back end that is played here."""

import unittest

import httpx
from app import main
from starlette.testclient import TestClient


class FrontEnd(unittest.TestCase):
    """A back end that answers what a test says."""

    def setUp(self) -> None:
        """Put it in the place of the connection to the real one."""
        self.asked: list[httpx.Request] = []
        self.answers: list[httpx.Response | Exception] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            found = self.answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        self.client = self.enterContext(TestClient(main.app))
        main.app.state.backend = httpx.AsyncClient(base_url="http://back", transport=httpx.MockTransport(answer))

    def test_page_lists_users_without_trusting_their_names(self) -> None:
        """What somebody typed is no markup."""
        user = {"id": 1, "name": "<b>Ada</b>", "email": "ada@example.com", "created_at": "2026-01-01T00:00:00"}
        self.answers = [httpx.Response(200, json={"backend": "be-1", "users": [user]})]
        page = self.client.get("/")
        assert page.status_code == 200
        assert "&lt;b&gt;Ada" in page.text
        assert "be-1" in page.text

    def test_request_goes_to_another_back_end_where_one_fails(self) -> None:
        """One that changes nothing; what may have changed something is not sent twice."""
        self.answers = [httpx.ReadError("gone"), httpx.Response(200, json={"backend": "be-2", "users": []})]
        assert self.client.get("/").status_code == 200
        self.answers = [httpx.ReadError("gone"), httpx.Response(200, json={"backend": "be-2", "users": []})]
        assert self.client.post("/users", data={"name": "a", "email": "b"}).status_code == 503
        assert [request.method for request in self.asked] == ["GET", "GET", "POST", "GET"]

    def test_refused_user_stays_in_the_form_with_the_reason(self) -> None:
        """And the page shows the users all the same."""
        self.answers = [httpx.Response(409, json={"error": "email: is there"}), httpx.Response(200, json={"users": []})]
        page = self.client.post("/users", data={"name": "Ada", "email": "ada@example.com"})
        assert page.status_code == 409
        assert "email: is there" in page.text
        assert 'value="ada@example.com"' in page.text

    def test_healthz_needs_no_back_end(self) -> None:
        """It asks nobody."""
        assert self.client.get("/healthz").status_code == 200
        assert self.asked == []


if __name__ == "__main__":
    unittest.main()
