"""A browser without scripts: cookies, forms, and nothing that a page does not offer."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

PASSWORD = "correct horse battery staple"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    path: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def page(self) -> Page:
        return Page(self.text)

    @property
    def location(self) -> str:
        return self.headers["Location"]


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """What stands in a page: its text, links and forms."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.assets: list[str] = []
        self.pictures: list[str] = []
        self.ids: list[str] = []
        self.language = ""
        self.inline: list[str] = []
        self._words: list[str] = []
        self._form: Form | None = None
        self._textarea: str | None = None
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if "id" in given:
            self.ids.append(given["id"])
        getattr(self, f"_start_{tag}", lambda given: None)(given)

    def _start_html(self, given):
        self.language = given["lang"]

    def _start_a(self, given):
        self.links.append(given["href"])

    def _start_link(self, given):
        self.assets.append(given["href"])

    def _start_script(self, given):
        if "src" in given:
            self.assets.append(given["src"])
        else:
            self.inline.append("script")

    def _start_style(self, given):
        self.inline.append("style")

    def _start_img(self, given):
        assert "alt" in given, given
        self.pictures.append(given["src"])

    def _start_form(self, given):
        self._form = Form(given.get("action", ""), given.get("method", "get"))
        self.forms.append(self._form)

    def _start_input(self, given):
        ticked = given.get("type") != "checkbox" or "checked" in given
        if self._form is not None and "name" in given and ticked:
            self._form.fields[given["name"]] = given.get("value", "")

    def _start_textarea(self, given):
        if self._form is not None:
            self._textarea = given["name"]
            self._form.fields[given["name"]] = ""

    def _start_select(self, given):
        self._select = given["name"]

    def _start_option(self, given):
        is_first = self._form is not None and self._select not in self._form.fields
        if self._form is not None and ("selected" in given or is_first):
            self._form.fields[self._select] = given["value"]

    def handle_endtag(self, tag):
        if tag == "form":
            self._form = None
        elif tag == "textarea":
            self._textarea = None

    def handle_data(self, data):
        if self._textarea is not None and self._form is not None:
            self._form.fields[self._textarea] += data
        self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def form(self, action: str) -> Form:
        """The form that is sent to a path, however the path goes on."""
        found = [form for form in self.forms if urlsplit(form.action).path.endswith(action)]
        assert found, f"no form for {action}, but {[form.action for form in self.forms]}"
        return found[0]


class Visitor:
    """Keeps cookies, sends what forms hold, and follows redirects only when told to."""

    def __init__(self, port: int, *, language: str = "en") -> None:
        self.port = port
        self.cookies: dict[str, str] = {}
        self.language = language
        self.set_cookies: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        given = {
            "Host": f"127.0.0.1:{self.port}",
            "Accept": HTML,
            "Accept-Language": self.language,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if self.cookies and "Cookie" not in given:
            given["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read(), path)
        finally:
            connection.close()
        self._keep(found)
        return found

    def _keep(self, answer: Answer) -> None:
        for text in answer.headers.get_all("Set-Cookie", []):
            self.set_cookies.append(text)
            for name, morsel in SimpleCookie(text).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, fields: dict | list, **headers: str) -> Answer:
        given = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(fields, doseq=True).encode()
        return self.ask("POST", path, body, **{**given, **headers})

    def submit(self, answer: Answer, action: str, **fields) -> Answer:
        """Fill in a form of a page and send it."""
        form = answer.page.form(action)
        return self.post(form.action or answer.path, form.fields | fields)

    def follow(self, answer: Answer) -> Answer:
        assert answer.status == 303, (answer.status, answer.text[:2000])
        return self.get(answer.location)

    def sign_in(self, token: str) -> Answer:
        """Sign in with a token, and go to where that leads."""
        answer = self.post("/console/sign-in", {"way": "token", "token": token})
        return self.follow(answer)
